"""Paired bootstrap differences, compared with loops over resamples."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.evals import bootstrap, runs
from ssljax.evals.comparison import (
  Difference,
  DifferentTexts,
  are_clear,
  paired_differences,
  resampled_means,
)
from ssljax.evals.groups import group_runs
from ssljax.evals.report.comparison_page import render_comparison
from tests.evals.run_folders import make_run


def read_groups(folder):
  return group_runs(runs.find_runs([str(folder)]))


def f1(predicted, label):
  caught = np.sum((predicted == 1) & (label == 1))
  return 2 * caught / (np.sum(predicted == 1) + np.sum(label == 1))


def test_paired_differences_equal_loops_over_resamples(tmp_path):
  for method, skill in (("supervised", 1.0), ("fixmatch", 2.0)):
    for seed in range(2):
      make_run(tmp_path / f"{method}{seed}", method, seed, skill=skill)
  groups = read_groups(tmp_path)
  (difference,) = paired_differences(groups)
  assert (difference.method, difference.other) == ("fixmatch", "supervised")
  means = [np.mean([run.result["test"]["f1"] for run in g.runs]) for g in groups]
  assert difference.value == pytest.approx(means[1] - means[0])
  gaps = []
  predictions = [[run.predictions() for run in group.runs] for group in groups]
  (counts,) = bootstrap.draw_resamples(80)
  for weight in counts.astype(int):
    rows = np.repeat(np.arange(80), weight)
    supervised, fixmatch = (
      np.mean([f1(p.logits[rows].argmax(-1), p.label[rows]) for p in by_seed])
      for by_seed in predictions
    )
    gaps.append(fixmatch - supervised)
  supervised, fixmatch = resampled_means(groups, "f1")
  np.testing.assert_allclose(fixmatch - supervised, gaps, atol=1e-12)
  expected = np.quantile(gaps, [0.025, 0.975])
  assert difference.interval == pytest.approx(expected, abs=1e-9)
  opposite = min(sum(gap <= 0 for gap in gaps), sum(gap >= 0 for gap in gaps))
  assert 1 < opposite < 300  # neither certain nor a coin toss
  assert difference.p_value == pytest.approx(2 * opposite / 1000)


def test_a_method_does_not_differ_from_itself(tmp_path):
  for method in ("supervised", "fixmatch"):
    make_run(tmp_path / method, method)
  first, second = read_groups(tmp_path)
  (difference,) = paired_differences([first, second._replace(runs=first.runs)])
  assert difference[2:] == (0.0, [0.0, 0.0], 1.0)


def test_a_difference_is_clear_if_its_corrected_p_value_is_small():
  def clear(*p_values):
    return are_clear([Difference("a", "b", 0.1, None, p) for p in p_values])

  assert clear() == []
  assert clear(0.04) == [True]
  assert clear(0.06) == [False]
  assert clear(None) == [False]
  assert clear(0.04, None, 0.5, 0.9) == [False, False, False, False]  # 3 x 0.04 > 0.05
  assert clear(0.5, 0.002, 0.004, None, 0.3) == [False, True, True, False, False]
  # Among 100 differences that don't exist, few runs call any of them clear.
  random = np.random.default_rng(0)
  false = [any(clear(*random.uniform(size=100))) for _ in range(200)]
  assert np.mean(false) < 0.1


def test_runs_on_different_texts_are_not_compared(tmp_path):
  make_run(tmp_path / "a", "supervised", n=80)
  make_run(tmp_path / "b", "fixmatch", n=81)
  make_run(tmp_path / "c", "multimatch", n=80)
  path = tmp_path / "c" / "predictions" / "test.parquet"
  table = pq.read_table(path)  # the same labels, other ids
  ids = pa.array([f"other{i}" for i in range(80)], pa.large_string())
  pq.write_table(table.set_column(0, "id", ids), path)
  first, *others = read_groups(tmp_path)
  for other in others:
    with pytest.raises(DifferentTexts, match="tested on different texts"):
      paired_differences([first, other])
  # The page shows everything except the differences.
  page = render_comparison(runs.find_runs([str(tmp_path)]))
  assert "tested on different texts" in page
  assert "Differences in F1" not in page


def test_a_metric_that_resamples_do_not_define_has_no_p_value(tmp_path):
  for method in ("supervised", "fixmatch"):
    make_run(tmp_path / method, method, n=4)  # resamples often contain one class
  (difference,) = paired_differences(read_groups(tmp_path), "auroc")
  assert (difference.interval, difference.p_value) == (None, None)

"""Average ranks over datasets, the Friedman test, and why there are none."""

import pytest
from scipy import stats

from ssljax.evals import ranks, runs
from ssljax.evals.groups import group_runs
from ssljax.evals.report.comparison_page import render_comparison
from tests.evals.run_folders import make_run


@pytest.mark.slow
def test_ranks_and_friedman_test(tmp_path):
  skills = {"supervised": 0.5, "fixmatch": 1.5, "multimatch": 3.0}
  for data in "abcd":
    for method, skill in skills.items():
      make_run(tmp_path / f"{data}{method}", method, 0, data, skill=skill)
  make_run(tmp_path / "single", "uda", 0, "a")
  make_run(tmp_path / "all", "supervised", 0, "a", labels=0, skill=4.0)
  groups = group_runs(runs.find_runs([str(tmp_path)]))
  (ranking,), _ = ranks.average_ranks(groups)
  assert (ranking.labels, ranking.data) == (200, list("abcd"))
  assert set(ranking.methods) == set(skills)
  assert ranking.unranked == ["uda"]  # ran on one dataset only
  by_name = dict(zip(ranking.methods, ranking.rank, strict=True))
  assert by_name["multimatch"] < by_name["supervised"]
  expected = stats.friedmanchisquare(*ranking.value).pvalue
  assert abs(ranking.p_value - expected) < 1e-12

  groups = [g for g in groups if g.name != "uda" and g.labels]
  (two_methods,), _ = ranks.average_ranks([g for g in groups if g.name != "fixmatch"])
  assert two_methods.p_value is None
  assert "three methods" in two_methods.no_test
  on_a = [g for g in groups if g.data == "a"]
  assert ranks.average_ranks(on_a) == ([], [])
  # Two budgets of one dataset are not two datasets.
  more = [g._replace(labels=50) for g in on_a]
  assert ranks.average_ranks(on_a + more) == ([], [])
  fixmatch = [g for g in groups if g.name == "fixmatch" and g.data in ("b", "c")]
  equal = [group._replace(name=name) for name in ("x", "y", "z") for group in fixmatch]
  (ties,), _ = ranks.average_ranks(equal)
  assert ties.p_value is None
  assert "All methods are equal" in ties.no_test


@pytest.mark.slow
def test_the_page_says_why_there_are_no_ranks_or_curves(tmp_path):
  def render():
    return render_comparison(runs.find_runs([str(tmp_path)]))

  make_run(tmp_path / "a", "supervised", data="one")
  make_run(tmp_path / "b", "fixmatch", data="one")
  assert "No ranks" not in render()
  make_run(tmp_path / "c", "fixmatch", data="two", labels=50)
  page = render()
  assert "no two datasets were run with the same budget" in page
  assert "No curve" not in page
  make_run(tmp_path / "d", "fixmatch", data="two")
  make_run(tmp_path / "e", "uda", data="one", labels=50)
  page = render()
  assert "on each of one, two, but only fixmatch has one." in page
  assert "on each of two, one, but no method has one." in page
  assert "No curve over budgets for one: no method has F1 at two" in page
  assert "No curve over budgets for two" not in page
  # Methods without a rank are listed.
  make_run(tmp_path / "f", "supervised", data="two")
  make_run(tmp_path / "g", "uda", data="one")
  assert "no F1 on some of these datasets: uda." in render()

"""The table of a sweep: means over seeds, as the report groups the runs."""

import numpy as np

from ssljax.evals import runs
from ssljax.sweeps.table import render_table
from tests.evals.run_folders import make_run


def test_the_table_has_means_over_seeds(tmp_path):
  made = {
    (method, labels): [
      runs.read_run(
        make_run(tmp_path / f"{method}{labels}{seed}", method, seed, **more)
      )
      for seed in range(seeds)
    ]
    for method, labels, seeds in (("fixmatch", 100, 3), ("supervised", 0, 1))
    for more in [{"labels": labels}]
  }
  table = render_table([run for group in made.values() for run in group])
  header, first, second = [line.split("  ") for line in table.splitlines()]
  header, first, second = (
    [cell.strip() for cell in line if cell.strip()] for line in (header, first, second)
  )
  assert header == ["method", "data", "labels", "runs", "f1", "macro_f1", "auroc"]
  (baseline,) = made["supervised", 0]
  assert first[:4] == ["supervised", "data", "all", "1"]
  assert first[4] == f"{baseline.result['test']['f1']:.3f}"
  assert second[:4] == ["fixmatch", "data", "100", "3"]
  for cell, metric in zip(second[4:], header[4:], strict=True):
    values = [run.result["test"][metric] for run in made["fixmatch", 100]]
    assert cell == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"

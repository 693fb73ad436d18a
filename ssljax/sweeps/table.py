"""A table of the finished runs of a sweep, for the console."""

from collections.abc import Sequence

from ssljax.evals import groups
from ssljax.evals.runs import Run

METRICS = ("f1", "macro_f1", "auroc")


def render_table(runs: Sequence[Run]) -> str:
  """Returns a line for each method, dataset and budget.

  It has the mean and the standard deviation of each of METRICS on the test texts, over
  the seeds.

  Raises:
    UserError: two runs are the same, or predictions can't be read.
  """
  rows = [["method", "data", "labels", "runs", *METRICS]]
  for group in groups.group_runs(runs):
    cells = [_cell(group.values(metric)) for metric in METRICS]
    labels = str(group.labels or "all")
    rows.append([group.name, group.data, labels, str(len(group.runs)), *cells])
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "\n".join(
    "  ".join(
      cell.ljust(width) for cell, width in zip(row, widths, strict=True)
    ).rstrip()
    for row in rows
  )


def _cell(values: Sequence[float]) -> str:
  mean, deviation = groups.mean_and_deviation(values)
  if mean is None:
    return "undefined"
  return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"

"""Renders the report that compares several runs as a single HTML file."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.evals import comparison, groups, ranks
from ssljax.evals.classification import METRICS
from ssljax.evals.groups import Group, mean_and_deviation
from ssljax.evals.report import plots
from ssljax.evals.report.html import METRIC_NAMES, render
from ssljax.evals.report.plots import Plot
from ssljax.evals.runs import Run

TARGETS = ("fpr_1%", "fpr_5%", "best_f1")  # the thresholds that are compared
Cells = list[tuple[float | None, float | None]]  # (mean, standard deviation)


def render_comparison(
  runs: Sequence[Run], metric: str = "f1", unfinished: Sequence[Path] = ()
) -> str:
  """Renders the report of several runs: per dataset, over datasets, over budgets.

  Args:
    runs: finished runs.
    metric: name of the metric to compare methods by.
    unfinished: folders of requested runs that have no result.

  Raises:
    UserError: two runs are the same, or a file of a run cannot be read.
  """
  members = groups.group_runs(runs)
  places = dict.fromkeys((group.data, group.labels) for group in members)
  curves, reasons = _budget_plots(members, metric)
  methods = len({group.name for group in members})
  return render(
    "comparison.html",
    title=f"{_count(len(runs), 'run')}, {_count(methods, 'method')}",
    unfinished=unfinished,
    metric=METRIC_NAMES[metric],
    metrics=[METRIC_NAMES[name] for name in METRICS],
    sections=[
      _section([g for g in members if (g.data, g.labels) == place], metric)
      for place in places
    ],
    places=places,
    varying=groups.varying_options(members),
    rankings=ranks.average_ranks(members, metric),
    remarks=ranks.reasons_without_ranks(members, metric) + reasons,
    budget_plots=curves,
    runs=[
      {
        **{key: run.result[key] for key in ("method", "seed", "labels", "step")},
        "workdir": run.workdir,
        "value": run.result["test"][metric],
      }
      for run in runs
    ],
  )


def _count(number: int, noun: str) -> str:
  return f"{number} {noun}{'' if number == 1 else 's'}"


def _section(members: Sequence[Group], metric: str) -> dict[str, Any]:
  """The section of one dataset and budget."""
  two_classes = all(len(run.labels) == 2 for group in members for run in group.runs)
  section = {
    "data": members[0].data,
    "labels": members[0].labels,
    "two_classes": two_classes,
    "targets": TARGETS if two_classes else (),
    "rows": [
      {
        "name": group.name,
        "runs": len(group.runs),
        "metrics": [mean_and_deviation(group.values(name)) for name in METRICS],
        "thresholds": _threshold_cells(group),
        "calibration": _calibration_cells(group),
        "seconds": round(np.median([run.result["seconds"] for run in group.runs])),
      }
      for group in members
    ],
    "differences": [],
    "remark": "",
    "config_differences": groups.config_differences(members),
    "plots": [],
  }
  complete = [g for g in members if len(g.values(metric)) == len(g.runs)]
  if len(complete) > 1:
    try:
      section["differences"] = comparison.paired_differences(complete, metric)
    except comparison.DifferentTexts as error:
      section["remark"] = f"{error}."
    section["plots"] = _difference_plots(section["differences"], complete[0], metric)
  elif len(members) > 1:
    name = METRIC_NAMES[metric]
    section["remark"] = f"{name} is undefined in some runs: no comparison."
  return section


def _threshold_cells(group: Group) -> Cells:
  """Recall and false-positive rate on test at the threshold of each of TARGETS."""
  cells = []
  for target, rate in itertools.product(TARGETS, ("recall", "false_positive_rate")):
    values = [run.result["thresholds"].get(target, {}).get(rate) for run in group.runs]
    # A mean over only the runs that met the target would be misleading.
    complete = all(value is not None for value in values)
    cells.append(mean_and_deviation(values if complete else []))
  return cells


def _calibration_cells(group: Group) -> Cells:
  """Temperature, then ECE and Brier score before and after calibration."""
  columns = [[run.result["temperature"] for run in group.runs]]
  for name, when in itertools.product(("ece", "brier"), ("before", "after")):
    columns.append([run.result["calibration"][when][name] for run in group.runs])
  return [mean_and_deviation(values) for values in columns]


def _difference_plots(
  differences: Sequence[comparison.Difference], baseline: Group, metric: str
) -> list[Plot]:
  """The differences to the first group, if they have intervals."""
  shown = [d for d in differences if d.interval and d.other == baseline.name]
  if not shown:
    return []
  label = f"difference in {METRIC_NAMES[metric]} from {baseline.name}"
  lows, highs = zip(*(d.interval for d in shown), strict=True)
  methods, values = [d.method for d in shown], [d.value for d in shown]
  svg = plots.interval_plot(methods, values, lows, highs, label)
  return [Plot(svg, f"{label[0].upper()}{label[1:]}, with 95% intervals")]


def _budget_plots(
  members: Sequence[Group], metric: str
) -> tuple[list[Plot], list[str]]:
  """A curve for each dataset with several budgets, and why some have none."""
  curves, reasons = [], []
  name = METRIC_NAMES[metric]
  for data in dict.fromkeys(group.data for group in members):
    on_data = [group for group in members if group.data == data]
    series: dict[str, list] = {}
    all_labels: dict[str, float] = {}
    for group in sorted(on_data, key=lambda group: group.labels):
      mean, deviation = mean_and_deviation(group.values(metric))
      if mean is None:
        continue
      if group.labels:
        point = (group.labels, mean, deviation or 0.0)
        series.setdefault(group.name, []).append(point)
      else:
        all_labels[f"{group.name}, all labels"] = mean
    if series and (all_labels or any(len(points) > 1 for points in series.values())):
      svg = plots.budget_curves(series, all_labels, name)
      curves.append(Plot(svg, f"{name} on {data}"))
    elif len({group.labels for group in on_data}) > 1:
      reasons.append(
        f"No curve over budgets for {data}: no method has {name} with two budgets."
      )
  return curves, reasons

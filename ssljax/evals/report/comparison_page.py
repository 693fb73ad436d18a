"""Renders the report that compares several runs as a single HTML file."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.evals import chosen, comparison, evaluation, filtering, groups, ranks
from ssljax.evals.classification import METRICS
from ssljax.evals.groups import Group, mean_and_deviation
from ssljax.evals.report import plots
from ssljax.evals.report.html import METRIC_NAMES, render
from ssljax.evals.runs import Run


def render_comparison(
  runs: Sequence[Run], metric: str = "f1", unfinished: Sequence[Path] = ()
) -> str:
  """Renders the report of several runs.

  Args:
    runs: finished runs.
    metric: name of the metric to compare methods by.
    unfinished: folders of unfinished runs, which the page lists.

  Raises:
    UserError: two runs are the same, or a file of a run cannot be read.
  """
  later = [run.workdir for run in runs if (run.workdir / chosen.FILE).exists()]
  runs = [_with_chosen(run) if run.workdir in later else run for run in runs]
  members = groups.group_runs(runs)
  places = dict.fromkeys((group.data, group.labels) for group in members)
  curves, no_curves = _budget_plots(members, metric)
  rankings, no_ranks = ranks.average_ranks(members, metric)
  methods = len({group.name for group in members})
  return render(
    "comparison.html",
    title=f"{_count(len(runs), 'run')}, {_count(methods, 'method')}",
    unfinished=unfinished,
    key=metric,
    metric=METRIC_NAMES[metric],
    metrics=[METRIC_NAMES[name] for name in METRICS],
    sections=[
      _section([g for g in members if (g.data, g.labels) == place], metric)
      for place in places
    ],
    places=places,
    varying=groups.varying_options(members),
    rankings=rankings,
    remarks=no_ranks + no_curves + list(map(_describe_later, later)),
    budget_plots=curves,
    runs=runs,
  )


def _with_chosen(run: Run) -> Run:
  """A run with the thresholds and the temperature that were chosen after it."""
  return run._replace(result=evaluation.with_chosen(run, run.predictions()))


def _describe_later(workdir: Path) -> str:
  return f"{workdir}: some thresholds were chosen after the run, on other texts."


def _count(number: int, noun: str) -> str:
  return f"{number} {noun}{'' if number == 1 else 's'}"


def _section(members: Sequence[Group], metric: str) -> dict[str, Any]:
  """The section of one dataset and budget."""
  two_classes = all(len(run.labels) == 2 for group in members for run in group.runs)
  targets = _targets(members) if two_classes else []
  complete = [g for g in members if len(g.values(metric)) == len(g.runs)]
  differences, remark = [], ""
  if len(complete) > 1:
    try:
      differences = comparison.paired_differences(complete, metric)
    except comparison.DifferentTexts as error:
      remark = f"{error}."
  elif len(members) > 1:
    remark = f"No comparison: {METRIC_NAMES[metric]} is undefined in some runs."
  clear = comparison.are_clear(differences)
  return {
    "data": members[0].data,
    "labels": members[0].labels,
    "texts": sorted(
      {r.result["test"]["rows"] for group in members for r in group.runs}
    ),
    "outcomes": _outcomes(members),
    "one_seed": any(len(group.runs) == 1 for group in complete),
    "is_clear": clear,
    "verdict": _verdict(differences, clear, metric),
    "two_classes": two_classes,
    "targets": targets,
    "rows": [
      {
        "name": group.name,
        "runs": len(group.runs),
        "metrics": [mean_and_deviation(group.values(name)) for name in METRICS],
        "thresholds": _threshold_cells(group, targets),
        "calibration": _calibration_cells(group),
        "seconds": round(np.median([run.result["seconds"] for run in group.runs])),
      }
      for group in members
    ],
    "differences": differences,
    "remark": remark,
    "config_differences": groups.config_differences(members),
    "plots": _difference_plots(differences, metric),
  }


def _outcomes(members: Sequence[Group]) -> list[str]:
  """Says of which methods the pseudo-labels did nothing, or were hardly filtered."""
  lines = []
  for group in members:
    outcomes = (
      filtering.outcome(run.result.get("pseudo_labels")) for run in group.runs
    )
    for outcome, number in Counter(filter(None, outcomes)).items():
      lines.append(
        f"{group.name}, {number} of {_count(len(group.runs), 'run')}: {outcome}"
      )
  return lines


def _verdict(
  differences: Sequence[comparison.Difference], clear: Sequence[bool], metric: str
) -> str:
  """Names the clear differences in a sentence; "" if there are no differences."""
  if not differences:
    return ""
  better: dict[str, list[str]] = {}
  for d in itertools.compress(differences, clear):
    names = (d.method, d.other) if d.value > 0 else (d.other, d.method)
    better.setdefault(names[0], []).append(names[1])
  name = METRIC_NAMES[metric]
  if not better:
    one = len(differences) == 1
    unclear = (
      f"The difference in {name} is not" if one else f"No difference in {name} is"
    )
    return f"{unclear} clear: it may be due to the choice of test texts."
  sentences = [
    f"{method} has a clearly higher {name} than {' and '.join(worse)}."
    for method, worse in better.items()
  ]
  if others := len(differences) - sum(clear):
    unclear = "differences are" if others > 1 else "difference is"
    sentences.append(f"The other {unclear} not clear.")
  return " ".join(sentences)


def _targets(members: Sequence[Group]) -> list[str]:
  """The aims that all runs have, in the order of the first run."""
  first, *others = (run.result["thresholds"] for g in members for run in g.runs)
  return [aim for aim in first if all(aim in other for other in others)]


def _threshold_cells(group: Group, targets: Sequence[str]) -> list[tuple]:
  """Recall and false-positive rate on test, at the threshold of each target.

  A cell contains the mean and the standard deviation over the runs.
  """
  cells = []
  for target, rate in itertools.product(targets, ("recall", "false_positive_rate")):
    values = [run.result["thresholds"][target].get(rate) for run in group.runs]
    # A mean over only the runs that met the target would be misleading.
    cells.append(mean_and_deviation([] if None in values else values))
  return cells


def _calibration_cells(group: Group) -> list[tuple]:
  """Temperature, then ECE and Brier score before and after calibration."""
  columns = [[run.result["temperature"] for run in group.runs]]
  for name, when in itertools.product(("ece", "brier"), ("before", "after")):
    columns.append([run.result["calibration"][when][name] for run in group.runs])
  return list(map(mean_and_deviation, columns))


def _difference_plots(
  differences: Sequence[comparison.Difference], metric: str
) -> list[tuple[str, str]]:
  """Plots the differences from the first group, where they have an interval."""
  baseline = differences[0].other if differences else None
  shown = [d for d in differences if d.interval and d.other == baseline]
  if not shown:
    return []
  label = f"difference in {METRIC_NAMES[metric]} from {baseline}"
  caption = f"{label[0].upper()}{label[1:]}, with 95% intervals"
  columns = ([getattr(d, n) for d in shown] for n in ("method", "value", "interval"))
  return [plots.interval_plot(caption, *columns, label)]


def _budget_plots(
  members: Sequence[Group], metric: str
) -> tuple[list[tuple[str, str]], list[str]]:
  """Curves for datasets with several budgets, and reasons why curves are missing."""
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
      curves.append(plots.budget_curves(f"{name} on {data}", series, all_labels, name))
    elif len({group.labels for group in on_data}) > 1:
      reasons.append(
        f"No curve over budgets for {data}: no method has {name} at two budgets."
      )
  return curves, reasons

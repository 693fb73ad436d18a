"""Reports as single HTML files: no network, no script; texts never become markup."""

import datetime
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.evals import comparison, evaluation, runs
from ssljax.evals.comparison import Group
from ssljax.evals.predictions import PREDICTIONS
from ssljax.evals.report import plots
from ssljax.evals.report.html import render
from ssljax.evals.runs import Predictions, Run

SLICES = 30
HEADLINE = {"f1": "F1", "auroc": "AUROC", "recall": "recall", "precision": "precision"}
METRICS = (
  *("accuracy", "balanced_accuracy", "precision", "recall", "f1", "macro_f1"),
  *("auroc", "auprc", "ece", "brier"),
)
AIMS = ("fpr_1%", "fpr_5%", "best_f1")  # of the thresholds, those that are compared
TERMS = ("loss", "labelled", "unlabelled")
SHARES = {
  "mask_rate": "Unlabelled texts that are used, of each class by pseudo-label",
  "pseudo_label_accuracy": "How many of these are labelled rightly",
}
# Fields of every train line; what is beside them is the method's.
KNOWN = (
  *("step", "split", *TERMS, *SHARES, "pseudo_label_weight", "gradient_norm"),
  *("update_norm", "real_token_share", "step_seconds", "examples_per_second"),
  "tokens_per_second",
)


def of_evaluation(run: Run, folder: Path) -> str:
  """The report of a run on other texts, from what `evaluate` left in `folder`."""
  found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
  other = ("test", "thresholds", "calibration", "slices", "undefined")
  run = run._replace(result={**run.result, **{name: found[name] for name in other}})
  return of_run(run, said=runs.said(folder / PREDICTIONS), on=Path(found["data"]).name)


def of_run(
  run: Run, unfinished: Sequence[Path] = (), said: Predictions | None = None, on=""
) -> str:
  """The report of one run, from what it left in its folder.

  Args:
    unfinished: folders of runs that were asked for, too, and have no result.
    said: of the texts that `run.result` is of; default those of the run's test.
    on: what these are called; default the data that it was trained on.
  """
  said = said or runs.predictions(run)
  past, result = runs.history(run), run.result
  test, names = result["test"], run.labels
  two = len(names) == 2
  thresholds = result["thresholds"]
  # A threshold that validation has none for has no point on the curves.
  known = {n: t for n, t in thresholds.items() if t["threshold"] is not None}
  curves = []
  if two and 0 < said.label.sum() < len(said.label):
    harmful = said.label == 1
    at = {n: (t["false_positive_rate"], t["recall"]) for n, t in known.items()}
    curves.append(_plot(plots.roc(said.score, harmful, at), "ROC curve on test"))
    at = {
      n: (t["recall"], t["precision"])
      for n, t in known.items()
      if t["precision"] is not None  # nothing is flagged
    }
    drawn = plots.precision_recall(said.score, harmful, at)
    curves.append(_plot(drawn, "Precision and recall on test; the line is chance"))
  what = "is harmful" if two else "is rightly classified"
  calibration = result["calibration"]
  bins = (calibration[name]["bins"] for name in ("before", "after"))
  trust = [
    _plot(plots.reliability(*bins), f"Share of a bin's texts that {what}"),
    _plot(plots.scores(said.score, said.label, names), "Scores by class, on test"),
  ]
  facts = {
    **{n: result[n] for n in ("method", "seed", "step", "steps", "temperature")},
    "labels": result["labels"] or "all",
    "select": run.config["select"],
    "temperature_why": result["undefined"].get("temperature"),
  }
  return render(
    "run.html",
    title=f"{result['method']} on {on or Path(run.config['data']).name}",
    facts=facts,
    headline=[
      (shown, test[name], test[f"{name}_interval"]) for name, shown in HEADLINE.items()
    ],
    thresholds=thresholds,
    curves=curves,
    metrics=[_metric(name, result) for name in METRICS],
    names=names,
    classes=[
      {"name": name, **one, "confusion": row}
      for name, one, row in zip(
        names, test["by_class"], test["confusion_matrix"], strict=True
      )
    ],
    calibration=calibration,
    trust=trust,
    two=two,
    slices=result["slices"][:SLICES],
    errors=_errors(said, names),
    training=_training(past, result["step"], run.config["select"], names),
    run_facts=_facts(run),
    config=json.dumps(run.config, indent=2, ensure_ascii=False),
    unfinished=unfinished,
  )


def of_comparison(
  found: Sequence[Run], metric: str = "f1", unfinished: Sequence[Path] = ()
) -> str:
  """The report of several runs: methods over seeds, paired, over data and labels.

  Args:
    unfinished: as for `of_run`.
  """
  groups = comparison.groups(found)
  places = dict.fromkeys((group.data, group.labels) for group in groups)
  parts = [
    _part([g for g in groups if (g.data, g.labels) == place], metric)
    for place in places
  ]
  curves, uncurved = _budgets(groups, metric)
  return render(
    "comparison.html",
    title=f"{len(found)} runs, {len({g.name for g in groups})} methods",
    metric=metric,
    names=METRICS[:8],
    parts=parts,
    places=places,
    moving=comparison.moving(groups),
    ranks=[
      {
        "labels": one.labels,
        "data": one.data,
        "p_value": one.p_value,
        "why": one.why,
        "left": one.left,
        "rows": [
          {"name": name, "rank": one.rank[i], "cells": one.value[i]}
          for i, name in enumerate(one.methods)
        ],
      }
      for one in comparison.ranks(groups, metric)
    ],
    unranked=comparison.unranked(groups, metric),
    budgets=curves,
    uncurved=uncurved,
    runs=[
      {
        **{name: run.result[name] for name in ("method", "seed", "labels", "step")},
        "workdir": run.workdir,
        "value": run.result["test"][metric],
      }
      for run in found
    ],
    unfinished=unfinished,
  )


def _part(some: Sequence[Group], metric: str) -> dict[str, Any]:
  """One data set and budget."""
  rows = [
    {
      "name": group.name,
      "runs": len(group.runs),
      "cells": [comparison.mean_and_spread(group.values(n)) for n in METRICS[:8]],
      "trust": _trust(group),
      "caught": _caught(group),
      "seconds": round(np.median([run.result["seconds"] for run in group.runs])),
    }
    for group in some
  ]
  whole = [g for g in some if len(g.values(metric)) == len(g.runs)]
  differences, why, drawn = [], "", []
  if len(whole) > 1:
    try:
      differences = comparison.paired(whole, metric)
    except comparison.OtherTexts as error:
      why = str(error)
    base = whole[0].name
    first = [d for d in differences if d.interval and d.other == base]
    if first:
      lows, highs = zip(*(d.interval for d in first), strict=True)
      values = [d.value for d in first]
      title = f"{metric}, against {base}"
      svg = plots.intervals([d.one for d in first], values, lows, highs, title)
      drawn.append(_plot(svg, f"Difference in {title}, with its 95% interval"))
  elif len(some) > 1:
    why = f"{metric} is undefined in some runs, so nothing is compared."
  two = all(len(run.labels) == 2 for group in some for run in group.runs)
  return {
    "data": some[0].data,
    "labels": some[0].labels,
    "two": two,
    "aims": AIMS if two else (),
    "rows": rows,
    "differences": differences,
    "why": why,
    "differing": comparison.differing(some),
    "plots": drawn,
  }


def _trust(group: Group) -> list[tuple[float | None, float | None]]:
  """Temperature, then ECE and Brier score before and after it."""
  found = [[run.result["temperature"] for run in group.runs]]
  for name, when in itertools.product(("ece", "brier"), ("before", "after")):
    found.append([run.result["calibration"][when][name] for run in group.runs])
  return [comparison.mean_and_spread(values) for values in found]


def _caught(group: Group) -> list[tuple[float | None, float | None]]:
  """Harm caught and false alarms on test at the threshold of each of AIMS."""
  found = []
  for aim, share in itertools.product(AIMS, ("recall", "false_positive_rate")):
    each = [run.result["thresholds"].get(aim, {}).get(share) for run in group.runs]
    whole = all(value is not None for value in each)
    found.append(comparison.mean_and_spread(each if whole else []))
  return found


def _budgets(
  groups: Sequence[Group], metric: str
) -> tuple[list[dict[str, str]], list[str]]:
  """Curves of each data set that was run with several budgets, or why it has none."""
  found, why = [], []
  for data in dict.fromkeys(group.data for group in groups):
    ran = [group for group in groups if group.data == data]
    own = [group for group in ran if group.values(metric)]
    series: dict[str, list] = {}
    for group in sorted(own, key=lambda g: g.labels):
      mean, spread = comparison.mean_and_spread(group.values(metric))
      if group.labels:
        series.setdefault(group.name, []).append((group.labels, mean, spread or 0.0))
    lines = {
      f"{group.name}, all labels": comparison.mean_and_spread(group.values(metric))[0]
      for group in own
      if not group.labels
    }
    if series and (lines or any(len(some) > 1 for some in series.values())):
      found.append(_plot(plots.budgets(series, lines, metric), f"{metric} on {data}"))
    elif len({group.labels for group in ran}) > 1:
      why.append(
        f"No curve over labels for {data}: no method has {metric} with two budgets."
      )
  return found, why


def _metric(name: str, result: dict[str, Any]) -> dict[str, Any]:
  row: dict[str, Any] = {"name": name, "why": result["test"]["undefined"].get(name, "")}
  for split in ("test", "validation"):
    row[split] = result[split][name]
    row[f"{split}_interval"] = result[split].get(f"{name}_interval")
  return row


def _errors(said: runs.Predictions, names: Sequence[str]) -> list[dict[str, Any]]:
  """The texts that were classified wrongly with the widest margin."""
  predicted = said.logits.argmax(1)
  return [
    {
      "id": said.id[i],
      "label": names[said.label[i]],
      "predicted": names[predicted[i]],
      "score": said.score[i],
      "text": said.text[i],
      "response": said.response[i],
    }
    for i in evaluation.surest_errors(said.logits, said.label)
  ]


def _training(
  past: dict[str, list], chosen: int, select: str, classes: Sequence[str]
) -> list[dict[str, str]]:
  train, validation = past["train"], past["validation"]
  found = []

  def series(lines: Sequence[dict], names: Sequence[str]) -> dict[str, list]:
    return {
      name: [line.get(name) for line in lines]
      for name in names
      if any(line.get(name) is not None for line in lines)
    }

  steps = [line["step"] for line in train]
  if some := series(train, TERMS):
    found.append(_plot(plots.training(steps, some), "The loss and its terms"))
  if some := series(validation, dict.fromkeys((select, "auroc", "accuracy"))):
    at = [line["step"] for line in validation]
    found.append(_plot(plots.validation(at, some, chosen), "Metrics on validation"))
  names = list(dict.fromkeys(itertools.chain.from_iterable(train)))
  for base, caption in SHARES.items():
    some = series(train, [n for n in names if n.split(".")[0] == base])
    some = {_class_of(name, classes): values for name, values in some.items()}
    if some:
      found.append(_plot(plots.shares(steps, some, base), caption))
  own = [n for n in names if n.split(".")[0] not in KNOWN]
  if some := series(train, own):
    found.append(_plot(plots.own(steps, some), "What the method says of itself"))
  return found


def _class_of(name: str, classes: Sequence[str]) -> str:
  """The class that a line such as `mask_rate.1` is of; `all` of that of no class."""
  _, _, number = name.partition(".")
  return classes[int(number)] if number.isdigit() else "all"


def _facts(run: Run) -> list[tuple[str, Any]]:
  result = run.result
  seconds = datetime.timedelta(seconds=round(result["seconds"]))
  versions = ", ".join(f"{name} {v}" for name, v in result["versions"].items())
  return [
    ("time", seconds),
    ("texts a second", f"{result['examples_per_second']:.1f}"),
    ("device", result["device"]),
    ("encoder", run.config["encoder"]),
    (
      "texts that were cut",
      f"{result['test']['truncated']} of {result['test']['rows']}",
    ),
    ("versions", versions),
    (f"parameters after step {result['steps']}, SHA-256", result["params_sha256"]),
  ]


def _plot(svg: str, caption: str) -> dict[str, str]:
  return {"svg": svg, "caption": caption}

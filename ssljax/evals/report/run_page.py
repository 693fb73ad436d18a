"""Renders the report of one run as a single HTML file.

The page needs no network and no script, and texts never become markup.
"""

import datetime
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssljax.evals import evaluation
from ssljax.evals.predictions import PREDICTIONS, Predictions, read_predictions
from ssljax.evals.report import plots
from ssljax.evals.report.html import METRIC_NAMES, render
from ssljax.evals.report.plots import Plot
from ssljax.evals.runs import Run
from ssljax.evals.thresholds import describe_target

MAX_SLICES = 30
HEADLINE = ("f1", "auroc", "recall", "precision")
LOSSES = ("loss", "labelled", "unlabelled")
SHARES = {
  "mask_rate": "Share of unlabelled texts used, overall and by pseudo-label",
  "pseudo_label_accuracy": "Share of the used pseudo-labels that are correct",
}
# The keys of every train line in metrics.jsonl; all others come from the method.
COMMON_KEYS = (
  *("step", "split", *LOSSES, *SHARES, "pseudo_label_weight", "gradient_norm"),
  *("update_norm", "real_token_share", "step_seconds", "examples_per_second"),
  "tokens_per_second",
)


def render_evaluation(run: Run, folder: Path) -> str:
  """Renders the report of a run on other texts, from the output of `evaluate`.

  Args:
    run: a finished run.
    folder: the output folder of the evaluation.
  """
  metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
  keys = ("test", "thresholds", "calibration", "slices", "undefined")
  run = run._replace(result={**run.result, **{key: metrics[key] for key in keys}})
  predictions = read_predictions(folder / PREDICTIONS)
  return render_run(run, predictions, Path(metrics["data"]).name)


def render_run(run: Run, predictions: Predictions | None = None, data: str = "") -> str:
  """Renders the report of one run from what it left in its folder.

  Args:
    run: a finished run.
    predictions: for the texts that `run.result` describes; by default the test texts.
    data: name of these texts; by default that of the training data.

  Raises:
    UserError: a file of the run cannot be read.
  """
  predictions = predictions or run.predictions()
  result, names, select = run.result, run.labels, run.config["select"]
  test, calibration = result["test"], result["calibration"]
  two_classes = len(names) == 2
  outcome = "harmful" if two_classes else "correctly classified"
  bins = (calibration[name]["bins"] for name in ("before", "after"))
  return render(
    "run.html",
    title=f"{result['method']} on {data or Path(run.config['data']).name}",
    result=result,
    select=METRIC_NAMES[select],
    names=names,
    two_classes=two_classes,
    headline=[_metric(name, result) for name in HEADLINE],
    thresholds=[
      {"name": target, "description": describe_target(target), **values}
      for target, values in result["thresholds"].items()
    ],
    threshold_plots=_threshold_plots(predictions, result["thresholds"]),
    metrics=[_metric(name, result) for name in METRIC_NAMES],
    classes=[
      {"name": name, **metrics, "confusion": row}
      for name, metrics, row in zip(
        names, test["by_class"], test["confusion_matrix"], strict=True
      )
    ],
    calibration_plots=[
      Plot(
        plots.reliability_diagram(*bins),
        f"Reliability: the share of each bin's texts that is {outcome}",
      ),
      Plot(
        plots.score_histogram(predictions.score, predictions.label, names),
        "Distribution of the scores on test, by class",
      ),
    ],
    slices=result["slices"][:MAX_SLICES],
    errors=_confident_errors(predictions, names),
    training_plots=_training_plots(run.history(), result["step"], select, names),
    facts=_facts(run),
    config=json.dumps(run.config, indent=2, ensure_ascii=False),
  )


def _metric(name: str, result: dict[str, Any]) -> dict[str, Any]:
  metric: dict[str, Any] = {
    "name": METRIC_NAMES[name],
    "reason": result["test"]["undefined"].get(name, ""),
  }
  for split in ("test", "validation"):
    metric[split] = result[split][name]
    metric[f"{split}_interval"] = result[split].get(f"{name}_interval")
  return metric


def _threshold_plots(
  predictions: Predictions, thresholds: dict[str, dict[str, Any]]
) -> list[Plot]:
  """ROC and precision-recall curves; none unless there are both of two classes."""
  score, label = predictions.score, predictions.label
  if predictions.logits.shape[1] != 2 or not 0 < label.sum() < len(label):
    return []
  existing = {n: t for n, t in thresholds.items() if t["threshold"] is not None}
  roc_points = {n: (t["false_positive_rate"], t["recall"]) for n, t in existing.items()}
  precision_points = {
    n: (t["recall"], t["precision"])
    for n, t in existing.items()
    if t["precision"] is not None  # nothing is flagged
  }
  harmful = label == 1
  return [
    Plot(plots.roc_curve(score, harmful, roc_points), "ROC curve on test"),
    Plot(
      plots.precision_recall_curve(score, harmful, precision_points),
      "Precision and recall on test; the horizontal line is random guessing",
    ),
  ]


def _confident_errors(
  predictions: Predictions, names: Sequence[str]
) -> list[dict[str, Any]]:
  predicted = predictions.logits.argmax(1)
  return [
    {
      "id": predictions.id[i],
      "label": names[predictions.label[i]],
      "predicted": names[predicted[i]],
      "score": predictions.score[i],
      "text": predictions.text[i],
      "response": predictions.response[i],
    }
    for i in evaluation.most_confident_errors(predictions.logits, predictions.label)
  ]


def _training_plots(
  history: dict[str, list], chosen: int, select: str, classes: Sequence[str]
) -> list[Plot]:
  """Plots of metrics.jsonl over steps; `chosen` is the step of the final model."""
  train, validation = history["train"], history["validation"]
  steps = [line["step"] for line in train]
  keys = list(dict.fromkeys(itertools.chain.from_iterable(train)))
  result = []
  if series := _series(train, LOSSES):
    result.append(Plot(plots.loss_curves(steps, series), "Loss and its terms"))
  if series := _series(validation, dict.fromkeys((select, "auroc", "accuracy"))):
    series = {METRIC_NAMES[name]: values for name, values in series.items()}
    evaluated = [line["step"] for line in validation]
    svg = plots.validation_curves(evaluated, series, chosen)
    result.append(Plot(svg, "Metrics on validation"))
  for share, caption in SHARES.items():
    series = _series(train, [key for key in keys if key.split(".")[0] == share])
    if series:
      series = {_class_name(key, classes): values for key, values in series.items()}
      svg = plots.share_curves(steps, series, share.replace("_", " "))
      result.append(Plot(svg, caption))
  method_keys = [key for key in keys if key.split(".")[0] not in COMMON_KEYS]
  if series := _series(train, method_keys):
    svg = plots.method_curves(steps, series)
    result.append(Plot(svg, "Values reported by the method"))
  return result


def _series(lines: Sequence[dict], keys: Sequence[str]) -> dict[str, list]:
  """The values of each key that occurs, with None for lines without it."""
  return {
    key: [line.get(key) for line in lines]
    for key in keys
    if any(line.get(key) is not None for line in lines)
  }


def _class_name(key: str, classes: Sequence[str]) -> str:
  """The class of a key such as `mask_rate.1`."""
  _, _, number = key.partition(".")
  return classes[int(number)] if number.isdigit() else "all classes"


def _facts(run: Run) -> list[tuple[str, Any]]:
  result, test = run.result, run.result["test"]
  versions = (f"{name} {version}" for name, version in result["versions"].items())
  return [
    ("Training time", datetime.timedelta(seconds=round(result["seconds"]))),
    ("Texts per second", f"{result['examples_per_second']:.1f}"),
    ("Device", result["device"]),
    ("Encoder", run.config["encoder"]),
    ("Truncated test texts", f"{test['truncated']} of {test['rows']}"),
    ("Versions", ", ".join(versions)),
    (f"SHA-256 of parameters after step {result['steps']}", result["params_sha256"]),
  ]

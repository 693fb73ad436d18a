"""Renders the report of one run as a single HTML file.

The page needs neither a network connection nor scripts. Texts are escaped.
"""

import datetime
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssljax.evals import decisions, evaluation, filtering
from ssljax.evals import verdict as verdicts
from ssljax.evals.classification import HARMFUL, score_of, softmax
from ssljax.evals.predictions import PREDICTIONS, Predictions, read_predictions
from ssljax.evals.report import plots
from ssljax.evals.report.html import METRIC_NAMES, render
from ssljax.evals.runs import Run

MAX_SLICES = 30
HEADLINE = ("f1", "auroc", "recall", "precision")
LOSSES = ("loss", "labelled", "unlabelled")
SHARES = {
  "mask_rate": "Share of unlabelled texts used, overall and by pseudo-label",
  "pseudo_label_accuracy": "Share of the used pseudo-labels that are correct",
}
# Keys of train lines in metrics.jsonl that don't come from the method.
COMMON_KEYS = (
  *("step", "split", *LOSSES, *SHARES, "pseudo_label_weight", "gradient_norm"),
  *("update_norm", "real_token_share", "step_seconds", "examples_per_second"),
  *("tokens_per_second", "host_share", "mfu", "learning_rate", "param_norm"),
)


def render_evaluation(run: Run, folder: Path) -> str:
  """Renders the report of an evaluation of a run on other texts.

  Args:
    run: a finished run.
    folder: the output folder of `ssljax.evaluate`.
  """
  metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
  keys = ("test", "thresholds", "calibration", "slices", "undefined", "temperature")
  metrics["thresholds"] = decisions.read_entries(metrics["thresholds"])
  run = run._replace(result={**run.result, **{key: metrics[key] for key in keys}})
  predictions = read_predictions(folder / PREDICTIONS)
  return render_run(run, predictions, Path(metrics["data"]).name)


def render_run(run: Run, predictions: Predictions | None = None, data: str = "") -> str:
  """Renders the report of one run from the files in its folder.

  Args:
    run: a finished run.
    predictions: predictions for the texts that `run.result` describes; by default, for
      the run's test texts.
    data: name of these texts; by default, the name of the training data.

  Raises:
    UserError: a file of the run cannot be read.
  """
  predictions, on = predictions or run.predictions(), data or "the test set"
  if not data:
    run = run._replace(result=evaluation.with_chosen(run, predictions))
  score = score_of(softmax(predictions.logits, run.result["temperature"]))
  predictions = predictions._replace(score=score)
  result, names, select = run.result, run.labels, run.config["select"]
  outcome = "harmful" if len(names) == 2 else "correctly classified"
  bins = (result["calibration"][name]["bins"] for name in ("before", "after"))
  return render(
    "run.html",
    title=f"{result['method']} on {data or Path(run.config['data']).name}",
    result=result,
    outcome=filtering.outcome(result.get("pseudo_labels")),
    on=on,
    select=select,
    names=names,
    two_classes=len(names) == 2,
    verdict=verdicts.verdict(result, f"the {len(predictions.label):,} texts of {on}"),
    thresholds=[
      [
        {
          "name": name,
          "entry": result["thresholds"][name],
          "missed": verdicts.missed(name, result["thresholds"][name]),
        }
        for name in same
      ]
      for same, _ in verdicts.by_threshold(result["thresholds"])
    ],
    headline=HEADLINE,
    metric_names=METRIC_NAMES,
    threshold_plots=_threshold_plots(predictions, result["thresholds"], on),
    calibration_plots=[
      plots.reliability_diagram(
        f"Reliability: the share of texts in each bin that are {outcome}", *bins
      ),
      plots.score_histogram(
        f"Distribution of the scores on {on}, by class",
        *(predictions.score, predictions.label, names),
      ),
    ],
    slices=result["slices"][:MAX_SLICES],
    predictions=predictions,
    errors=evaluation.most_confident_errors(predictions.logits, predictions.label),
    training_plots=_training_plots(run.history(), result["step"], select, names),
    facts=_facts(run, on),
    config=json.dumps(run.config, indent=2, ensure_ascii=False),
  )


def _threshold_plots(
  predictions: Predictions, thresholds: dict[str, dict[str, Any]], on: str
) -> list[tuple[str, str]]:
  """ROC and precision-recall curves; [] unless there are two classes and both occur."""
  score, harmful = predictions.score, predictions.label == HARMFUL
  if predictions.logits.shape[1] != 2 or not 0 < harmful.sum() < len(harmful):
    return []
  roc_points, precision_points = {}, {}
  for name, rates in thresholds.items():
    if rates["threshold"] is not None:
      roc_points[name] = rates["false_positive_rate"], rates["recall"]
      if rates["precision"] is not None:  # None if nothing is flagged
        precision_points[name] = rates["recall"], rates["precision"]
  return [
    plots.roc_curve(f"ROC curve on {on}", score, harmful, roc_points),
    plots.precision_recall_curve(
      f"Precision and recall on {on}; the horizontal line shows random guessing",
      *(score, harmful, precision_points),
    ),
  ]


def _training_plots(
  history: dict[str, list], chosen: int, select: str, classes: Sequence[str]
) -> list[tuple[str, str]]:
  """Plots metrics.jsonl over steps; `chosen` is the step of the final model."""
  train, validation = history["train"], history["validation"]
  keys = list(dict.fromkeys(itertools.chain.from_iterable(train)))

  def class_name(key: str) -> str:  # the class in a key such as mask_rate.1
    number = key.partition(".")[2]
    return classes[int(number)] if number.isdigit() else "all classes"

  def draw(caption: str, lines: list[dict], names: dict[str, str], *args, **kwargs):
    """Draws the values of `names` (key -> name) that occur in `lines`."""
    series = {
      name: [line.get(key) for line in lines]
      for key, name in names.items()
      if any(line.get(key) is not None for line in lines)
    }
    if series:
      steps = [line["step"] for line in lines]
      curves.append(plots.step_curves(caption, steps, series, *args, **kwargs))

  curves: list[tuple[str, str]] = []
  draw("Loss and its terms", train, {key: key for key in LOSSES}, "loss", (0, None))
  names = {name: METRIC_NAMES[name] for name in (select, "auroc", "accuracy")}
  draw("Metrics on validation", validation, names, "validation", chosen=chosen)
  for share, caption in SHARES.items():
    names = {key: class_name(key) for key in keys if key.split(".")[0] == share}
    draw(caption, train, names, share.replace("_", " "), (0, 1.02))
  names = {key: key for key in keys if key.split(".")[0] not in COMMON_KEYS}
  draw("Values reported by the method", train, names)
  return curves


def _facts(run: Run, on: str) -> list[tuple[str, Any]]:
  result, test = run.result, run.result["test"]
  versions = (f"{name} {version}" for name, version in result["versions"].items())
  return [
    ("Training time", datetime.timedelta(seconds=round(result["seconds"]))),
    ("Texts per second", f"{result['examples_per_second']:.1f}"),
    ("Device", result["device"]),
    ("Encoder", run.config["encoder"]),
    (f"Truncated texts of {on}", f"{test['truncated']} of {test['rows']}"),
    ("Versions", ", ".join(versions)),
    (f"SHA-256 of parameters after step {result['steps']}", result["params_sha256"]),
  ]

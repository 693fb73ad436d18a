"""Computes the metrics that result.json and metrics.json contain."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ssljax.evals import (
  bootstrap,
  calibration,
  chosen,
  classification,
  decisions,
  slices,
  thresholds,
)
from ssljax.evals.classification import HARMFUL, softmax
from ssljax.evals.decisions import DecisionRule
from ssljax.evals.predictions import Predictions
from ssljax.evals.runs import Run
from ssljax.evals.scored import ScoredTexts
from ssljax.evals.wilson import proportion

TOO_FEW_RESAMPLES = "it is undefined in more than 5% of the bootstrap resamples"


def run_metrics(
  validation: ScoredTexts,
  test: ScoredTexts,
  aims: Sequence[str],
  calibration: ScoredTexts | None = None,
) -> dict[str, Any]:
  """The metrics of a finished run, as in result.json.

  Args:
    aims: see `decisions.fit_rule`.
    calibration: texts that were used for nothing else.
  """
  rule = decisions.fit_rule(validation, aims, calibration)
  return {
    "temperature": rule.temperature,
    "undefined": rule.undefined,
    "validation": set_metrics(validation, rule),
    **held_out_metrics(test, rule),
  }


def held_out_metrics(texts: ScoredTexts, rule: DecisionRule) -> dict[str, Any]:
  """Returns `test`, `thresholds`, `calibration` and `slices` for a held-out set."""
  wrong = texts.logits.argmax(1) != texts.label
  harmful = texts.label == HARMFUL if texts.logits.shape[1] == 2 else None
  return {
    "test": set_metrics(texts, rule),
    "thresholds": threshold_metrics(texts, rule),
    "calibration": calibration_metrics(texts, rule),
    "slices": slices.slice_metrics(texts.columns, wrong, harmful),
  }


def set_metrics(texts: ScoredTexts, rule: DecisionRule) -> dict[str, Any]:
  """The metrics of one set, with 95% intervals over texts.

  Accuracy has a Wilson interval; with two classes, so do precision and recall. ECE has
  no interval. The other metrics have bootstrap intervals; for F1 with two classes, see
  `f1_interval` in wilson.py.

  Returns:
    The metrics of `classification_metrics`, `ece` and `brier`; `<name>_interval` for
    each of them except `ece`; `undefined`, which says why a metric or an interval is
    None; `rows`, `truncated`, `by_class` and `confusion_matrix`.
  """
  logits, label = texts.logits, texts.label
  errors = calibration.calibration_errors(logits, label, rule.temperature)
  undefined = classification.undefined_reasons(logits, label)
  intervals = _intervals(texts, rule)
  values = classification.classification_metrics(logits, label)
  metrics: dict[str, Any] = {}
  for name, value in {**values, "ece": errors["ece"], "brier": errors["brier"]}.items():
    metrics[name] = value
    if name == "ece":  # no interval: resampling biases it upwards
      continue
    metrics[f"{name}_interval"] = None if value is None else intervals[name]
    if value is not None and intervals[name] is None:
      undefined[f"{name}_interval"] = TOO_FEW_RESAMPLES
  return {
    **metrics,
    "undefined": undefined,
    "rows": len(label),
    "truncated": texts.truncated,
    "by_class": classification.per_class_metrics(logits, label),
    "confusion_matrix": classification.confusion_matrix(logits, label),
  }


def _intervals(texts: ScoredTexts, rule: DecisionRule) -> dict[str, Any]:
  """The interval of each metric of a set."""
  logits, label = texts.logits, texts.label
  squared = calibration.squared_errors(softmax(logits, rule.temperature), label)
  draw = partial(bootstrap.draw_resamples, len(label))
  resampled = classification.resampled_metrics(logits, label, draw())
  resampled["brier"] = np.concatenate([counts @ squared for counts in draw()])
  resampled["brier"] /= len(label)
  intervals = {
    name: bootstrap.percentile_interval(values) for name, values in resampled.items()
  }
  predicted = logits.argmax(1)
  intervals["accuracy"] = proportion((predicted == label).sum(), len(label))[1]
  if logits.shape[1] == 2:
    rates = thresholds.rate_intervals(
      predicted, label == HARMFUL, HARMFUL, resampled["f1"]
    )
    intervals |= {n: rates[f"{n}_interval"] for n in ("precision", "recall", "f1")}
  return intervals


def threshold_metrics(texts: ScoredTexts, rule: DecisionRule) -> dict[str, Any]:
  """Measures the thresholds on a set that was not used to choose them.

  Returns:
    For each aim: what `decisions.fit_rule` found. If there is a threshold, also the
    rates of `thresholds.threshold_rates` and their intervals. With more than two
    classes, {}.
  """
  metrics = {target: dict(chosen) for target, chosen in rule.thresholds.items()}
  existing = [m for m in metrics.values() if m["threshold"] is not None]
  if not existing:
    return metrics
  score = softmax(texts.logits, rule.temperature)[:, HARMFUL]
  harmful = texts.label == HARMFUL
  values = [m["threshold"] for m in existing]
  resampled = thresholds.resampled_f1(
    score, harmful, values, bootstrap.draw_resamples(len(harmful))
  )
  for target_metrics, threshold, f1 in zip(existing, values, resampled, strict=True):
    target_metrics |= {
      **thresholds.threshold_rates(score, harmful, threshold),
      **thresholds.rate_intervals(score, harmful, threshold, f1),
    }
  return metrics


def with_chosen(run: Run, predictions: Predictions) -> dict[str, Any]:
  """The result of a run, with the thresholds that were chosen after it.

  Args:
    predictions: on the run's test texts.
  """
  names = ("temperature", "thresholds", "undefined")
  own = DecisionRule(*(run.result[name] for name in names))
  rule = chosen.apply(run.workdir, own, run.result["step"])
  if rule == own:
    return run.result
  truncated = run.result["test"]["truncated"]
  texts = ScoredTexts(predictions.logits, predictions.label, {}, truncated)
  changed = {
    "temperature": rule.temperature,
    "undefined": rule.undefined,
    "test": set_metrics(texts, rule),
    "thresholds": threshold_metrics(texts, rule),
    "calibration": calibration_metrics(texts, rule),
  }
  return {**run.result, **changed}


def calibration_metrics(texts: ScoredTexts, rule: DecisionRule) -> dict[str, Any]:
  """Calibration errors and bins of a set, before and after temperature scaling."""
  logits, label = texts.logits, texts.label
  return {
    name: {
      **calibration.calibration_errors(logits, label, temperature),
      "bins": calibration.reliability_bins(logits, label, temperature),
    }
    for name, temperature in (("before", 1.0), ("after", rule.temperature))
  }


def most_confident_errors(
  logits: np.ndarray, label: np.ndarray, limit: int = 30
) -> np.ndarray:
  """Indices, i64, of the misclassified texts with the widest margins, widest first."""
  margin = logits.max(1) - logits[np.arange(len(label)), label]
  wrong = np.flatnonzero(logits.argmax(1) != label)
  return wrong[np.argsort(-margin[wrong], kind="stable")][:limit]

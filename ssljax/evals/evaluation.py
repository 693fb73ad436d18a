"""Computes the metrics that result.json and metrics.json contain."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax import options
from ssljax.data.records.records import Records
from ssljax.errors import UserError
from ssljax.evals import bootstrap, calibration, classification, slices, thresholds
from ssljax.evals.classification import HARMFUL, softmax
from ssljax.evals.wilson import proportion
from ssljax.options import Option, Range

_TEMPERATURE = Option(
  "temperature", float, 1.0, Range(calibration.LOWEST, calibration.HIGHEST)
)
# Above the highest possible score, 1, there is one more threshold, which flags nothing.
_THRESHOLD = Option("threshold", float, 0.5, Range(0.0, float(np.nextafter(1, 2))))

TWO_CLASSES_ONLY = "thresholds exist only for two classes"
TOO_FEW_RESAMPLES = "it is undefined in more than 5% of the bootstrap resamples"
UNFINISHED = (
  "the run is not finished, so it has no temperature and no thresholds yet: scores are "
  "not calibrated"
)


class ScoredTexts(NamedTuple):
  """Labelled texts with the logits of a classifier."""

  logits: np.ndarray  # f32 [n, C]
  label: np.ndarray  # i64 [n]
  columns: Mapping[str, Sequence[Any]] = {}  # columns to slice by
  truncated: int = 0  # number of texts that were cut to the maximum length

  @classmethod
  def from_records(cls, rows: Records, logits, truncated, columns=()) -> "ScoredTexts":
    """Combines n labelled rows with their logits.

    Args:
      logits: f32 [n, C].
      truncated: bool [n], whether each text was cut.
      columns: columns to slice by, in addition to the columns of the records.
    """
    columns = slices.slice_columns(rows, dict(columns))
    return cls(logits, rows.label, columns, int(truncated.sum()))


class DecisionRule(NamedTuple):
  """The temperature and the thresholds, both determined on validation."""

  temperature: float
  thresholds: dict[str, dict[str, Any]]  # see `thresholds.choose_thresholds`
  undefined: dict[str, str]  # "temperature" or "thresholds" -> why it is missing


def fit_decision_rule(validation: ScoredTexts) -> DecisionRule:
  """Fits the temperature, then chooses thresholds on the calibrated score."""
  temperature, reason = calibration.fit_temperature(validation.logits, validation.label)
  undefined = {} if reason is None else {"temperature": reason}
  if validation.logits.shape[1] != 2:
    undefined["thresholds"] = TWO_CLASSES_ONLY
    return DecisionRule(temperature, {}, undefined)
  score = softmax(validation.logits, temperature)[:, HARMFUL]
  chosen = thresholds.choose_thresholds(score, validation.label == HARMFUL)
  return DecisionRule(temperature, chosen, undefined)


def read_decision_rule(workdir: Path, step: int) -> DecisionRule:
  """Reads the decision rule of a run.

  The rule of an unfinished run has the temperature 1 and no thresholds.

  Args:
    workdir: folder of the run.
    step: step of the checkpoint that the rule will be applied to.

  Raises:
    UserError: result.json cannot be read, or belongs to another checkpoint.
  """
  path = workdir / "result.json"
  if not path.exists():
    undefined = {"temperature": UNFINISHED, "thresholds": UNFINISHED}
    return DecisionRule(1.0, {}, undefined)
  try:
    result = json.loads(path.read_text(encoding="utf-8"))
    chosen = {
      target: {key: point[key] for key in ("threshold", "warning", "validation")}
      for target, point in result["thresholds"].items()
    }
    rule = DecisionRule(result["temperature"], chosen, result["undefined"])
    rule_step = result["step"]
    check_rule(rule.temperature, {n: p["threshold"] for n, p in chosen.items()})
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f"{path}: cannot be read ({error!r}), so the thresholds are unknown; remove it "
      "and run the training command again to write it"
    ) from None
  if rule_step != step:
    raise UserError(
      f"{workdir}: the checkpoint of step {rule_step} cannot be read, and the "
      f"thresholds in result.json do not apply to step {step}; train again in a new "
      "folder"
    )
  return rule


def check_rule(temperature: Any, thresholds: Mapping[str, Any]) -> None:
  """Checks values that were read from a file; raises ValueError."""
  options.check({"temperature": _TEMPERATURE}, {"temperature": temperature})
  for name, value in thresholds.items():
    if value is not None:
      options.check({name: _THRESHOLD}, {name: value})


def run_metrics(validation: ScoredTexts, test: ScoredTexts) -> dict[str, Any]:
  """The metrics of a finished run, as in result.json."""
  rule = fit_decision_rule(validation)
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
    For each of `thresholds.TARGETS`: `threshold`, `warning` and `validation`. If there
    is a threshold, also the rates of `thresholds.threshold_rates` and their intervals.
    With more than two classes, {}.
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

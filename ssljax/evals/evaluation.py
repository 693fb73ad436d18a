"""All that is said of a classifier on a set of texts, as result.json has it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.data.records.records import Records
from ssljax.errors import UserError
from ssljax.evals import bootstrap, calibration, classification, slices, wilson
from ssljax.evals import thresholds as operating
from ssljax.evals.classification import HARMFUL, softmax

SEVERAL = "thresholds are for two classes"
RARE = "more than one resample in twenty does not define it"
UNFINISHED = (
  "the run is not finished, so validation has settled no temperature and no threshold: "
  "scores are not calibrated"
)


class Scored(NamedTuple):
  """A labelled set, and what a classifier said of it."""

  logits: np.ndarray  # f32 [n, C]
  label: np.ndarray  # i64 [n]
  columns: Mapping[str, Sequence[Any]] = {}  # of slices, a value for each text
  truncated: int = 0  # texts that were longer than what was read of them


class Decision(NamedTuple):
  """What validation settles: how sure a score is, and where to flag."""

  temperature: float
  thresholds: dict[str, dict[str, Any]]  # see `operating.choose`
  undefined: dict[str, str]  # why something is None or 1, by its name


def decide(validation: Scored) -> Decision:
  """Fits the temperature, then chooses thresholds on the calibrated score."""
  temperature, why = calibration.temperature(validation.logits, validation.label)
  undefined = {} if why is None else {"temperature": why}
  if validation.logits.shape[1] != 2:
    return Decision(temperature, {}, undefined | {"thresholds": SEVERAL})
  score = softmax(validation.logits, temperature)[:, HARMFUL]
  thresholds = operating.choose(score, validation.label == HARMFUL)
  return Decision(temperature, thresholds, undefined)


def decision_of(workdir: Path, step: int) -> Decision:
  """What validation has settled in a finished run; nothing where it goes on.

  Args:
    step: of the checkpoint that it is for.

  Raises:
    UserError: result.json cannot be read, or is of another checkpoint.
  """
  path = workdir / "result.json"
  if not path.exists():
    return Decision(1.0, {}, dict.fromkeys(("temperature", "thresholds"), UNFINISHED))
  try:
    result = json.loads(path.read_text(encoding="utf-8"))
    names = ("threshold", "warning", "validation")
    thresholds = {
      aim: {name: found[name] for name in names}
      for aim, found in result["thresholds"].items()
    }
    chosen = result["step"]
    decision = Decision(result["temperature"], thresholds, result["undefined"])
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f"{path}: cannot be read ({error!r}), so no threshold is known; "
      "the command that trained the run writes it anew"
    ) from None
  if chosen != step:
    raise UserError(
      f"{workdir}: the checkpoint of step {chosen}, which result.json is of, cannot be "
      f"read, and its thresholds do not hold for step {step}; train it again in a new "
      "folder"
    )
  return decision


def of_set(part: Scored, decision: Decision, seed: int = 0) -> dict[str, Any]:
  """Metrics of one set, each with its 95% interval over texts.

  Intervals are by bootstrap, and those of shares (accuracy; with two classes precision
  and recall) Wilson's. F1 has Wilson's, too, where no resample could differ (`_f1`).

  Returns:
    The names of `classification`, `ece` and `brier` (of the calibrated score), each
    with `<name>_interval`; `undefined` with why a metric, or its interval, is None;
    `by_class` and `confusion_matrix`; `rows` and how many of them were `truncated`.
  """
  logits, label = part.logits, part.label
  found: dict[str, Any] = dict(classification.classification(logits, label))
  after = calibration.errors(logits, label, decision.temperature)
  found |= {name: after[name] for name in ("ece", "brier")}
  square = calibration.squares(softmax(logits, decision.temperature), label)
  squares: list[np.ndarray] = []

  def blocks():  # drawn once for all metrics
    for counts in _resamples(part, seed):
      squares.append(counts @ square)
      yield counts

  drawn = classification.resampled(logits, label, blocks())
  drawn["brier"] = np.concatenate(squares) / len(label)
  spread = bootstrap.intervals(drawn) | _of_shares(logits, label)
  if logits.shape[1] == 2:
    flagged, harmful = logits.argmax(1) == HARMFUL, label == HARMFUL
    spread["f1_interval"] = _f1(flagged, harmful, drawn["f1"])
  result: dict[str, Any] = {}
  for name, value in found.items():
    result[name] = value
    if name != "ece":
      result[f"{name}_interval"] = None if value is None else spread[f"{name}_interval"]
  result["undefined"] = classification.undefined(logits, label) | {
    name: RARE
    for name, value in spread.items()
    if value is None and found.get(name.removesuffix("_interval")) is not None
  }
  result |= {"rows": len(label), "truncated": part.truncated}
  result["by_class"] = classification.by_class(logits, label)
  result["confusion_matrix"] = classification.confusion_matrix(logits, label)
  return result


def _of_shares(logits, label) -> dict[str, list[float] | None]:
  predicted = logits.argmax(1)
  right = predicted == label
  found = {"accuracy": (right.sum(), len(label))}
  if logits.shape[1] == 2:
    flagged, harmful = predicted == HARMFUL, label == HARMFUL
    caught = (flagged & harmful).sum()
    found |= {"precision": (caught, flagged.sum()), "recall": (caught, harmful.sum())}
  return {f"{name}_interval": wilson.share(*of)[1] for name, of in found.items()}


def _f1(flagged, harmful, drawn) -> list[float] | None:
  """F1's interval: by bootstrap from `drawn` [R] resamples, if they can differ.

  Where nothing was caught every resample says 0, where nothing is wrong 1, and neither
  is certain.
  """
  caught, wrong = (flagged & harmful).sum(), (flagged ^ harmful).sum()
  if caught and wrong:
    return bootstrap.interval(drawn)
  return wilson.f1(caught, wrong)


def thresholds(part: Scored, decision: Decision, seed: int = 0) -> dict[str, Any]:
  """What each threshold does on a set that it was not chosen on.

  Returns:
    For each name of `operating.NAMES`: `threshold`, `warning`, `validation`, and the
    shares of `operating.measured` with their intervals; {} with more than two classes.
  """
  if not decision.thresholds:
    return {}
  score = softmax(part.logits, decision.temperature)[:, HARMFUL]
  harmful = part.label == HARMFUL
  chosen = {n: d["threshold"] for n, d in decision.thresholds.items()}
  known = {name: value for name, value in chosen.items() if value is not None}
  blocks = _resamples(part, seed)
  drawn = operating.resampled(score, harmful, known.values(), blocks)
  spread = dict(zip(known, drawn, strict=True))
  found = {}
  for name, of_validation in decision.thresholds.items():
    found[name] = dict(of_validation)
    if name in known:
      values = operating.measured(score, harmful, known[name])
      found[name] |= values | operating.intervals(score, harmful, known[name])
      flagged = score >= known[name]
      found[name]["f1_interval"] = _f1(flagged, harmful, spread[name]["f1"])
  return found


def calibrated(part: Scored, decision: Decision) -> dict[str, Any]:
  """Calibration of a set before and after the temperature, with reliability bins."""
  return {
    name: {
      **calibration.errors(part.logits, part.label, temperature),
      "bins": [
        one._asdict()
        for one in calibration.reliability(part.logits, part.label, temperature)
      ],
    }
    for name, temperature in (("before", 1.0), ("after", decision.temperature))
  }


def scored(
  rows: Records,
  logits: np.ndarray,
  truncated: np.ndarray,
  more: Mapping = {},
) -> Scored:
  """Labelled rows with their logits; `truncated` bool [n], `more` columns of slices."""
  return Scored(logits, rows.label, slices.columns(rows, more), int(truncated.sum()))


def surest_errors(logits: np.ndarray, label: np.ndarray, most: int = 30) -> np.ndarray:
  """Places of the texts that were classified wrongly with the widest margin, i64."""
  apart = logits.max(1) - logits[np.arange(len(label)), label]
  wrong = np.flatnonzero(logits.argmax(1) != label)
  return wrong[np.argsort(-apart[wrong], kind="stable")][:most]


def of_slices(part: Scored) -> list[dict[str, Any]]:
  """Parts of the set, the worst first; decisions are those of the larger logit."""
  wrong = part.logits.argmax(1) != part.label
  harmful = part.label == HARMFUL if part.logits.shape[1] == 2 else None
  return slices.slices(part.columns, wrong, harmful)


def of_run(validation: Scored, test: Scored, seed: int = 0) -> dict[str, Any]:
  """What result.json says of a finished run."""
  decision = decide(validation)
  return {
    "temperature": decision.temperature,
    "undefined": decision.undefined,
    "validation": of_set(validation, decision, seed),
    "test": of_set(test, decision, seed),
    "thresholds": thresholds(test, decision, seed),
    "calibration": calibrated(test, decision),
    "slices": of_slices(test),
  }


def _resamples(part: Scored, seed: int):
  return bootstrap.resamples(len(part.label), seed=seed)

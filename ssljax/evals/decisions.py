"""The decision rule of a classifier: its temperature, and thresholds for aims.

A promise needs labelled texts that were used for nothing else. Without enough of them,
a threshold is only what looked best on validation, and its warning says so.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from ssljax import aims as aims_
from ssljax import options
from ssljax.aims import Aim
from ssljax.errors import UserError
from ssljax.evals import calibration as calibrating
from ssljax.evals import promises, thresholds
from ssljax.evals.classification import HARMFUL, softmax
from ssljax.evals.scored import ScoredTexts
from ssljax.evals.thresholds import Outcome, Promise, Scored
from ssljax.options import Option, Range

_TEMPERATURE = Option(
  "temperature", float, 1.0, Range(calibrating.LOWEST, calibrating.HIGHEST)
)
# Above the highest possible score, 1, there is one more threshold, which flags nothing.
_THRESHOLD = Option("threshold", float, 0.5, Range(0.0, float(np.nextafter(1, 2))))

FEW = 50  # with fewer harmful texts, a threshold without a promise depends on chance
TWO_CLASSES_ONLY = "thresholds exist only for two classes"
UNFINISHED = (
  "the run is not finished, so it has no temperature and no thresholds yet: scores are "
  "not calibrated"
)
# What an aim's rate is a share of.
_SHARE_OF = {
  "fpr": "harmless texts",
  "recall": "harmful texts",
  "precision": "flagged texts",
  "review": "texts",
}
_RATES = {
  "fpr": "a false-positive rate of at most",
  "recall": "a recall of at least",
  "precision": "a precision of at least",
  "review": "that the share of flagged texts is at most",
}
KEPT = ("threshold", "warning", "validation", "promise", "empirical", "tightest")
KEPT += ("needed", "on")  # of an entry of result.json; the others describe the test set


class DecisionRule(NamedTuple):
  temperature: float
  thresholds: dict[str, dict[str, Any]]  # by aim; see `fit_rule`
  undefined: dict[str, str]  # "temperature" or "thresholds" -> why it is missing


def fit_rule(
  validation: ScoredTexts,
  aims: Sequence[str],
  held_back: ScoredTexts | None = None,
  on: str = "calibration",
) -> DecisionRule:
  """Fits the temperature on all texts, then chooses a threshold for each aim.

  Args:
    validation: texts that chose the checkpoint; their thresholds promise nothing.
    aims: see `aims.parse`.
    held_back: texts that were used for nothing else.
    on: the name of `held_back`, for messages.

  Returns:
    For each aim: `threshold` (None if there is none), `warning` (None, or why it's
    missing or what it doesn't promise), `promise` (None, or the fields of
    `thresholds.Promise` without the threshold), `empirical` (the threshold that looks
    best on validation), `tightest` (None, or the nearest promise that there is),
    `needed` (None, or how many texts a promise needs, with 0 and with 5 errors), `on`
    (the texts on which the threshold was chosen) and `validation` (its rates on these,
    as in `thresholds.threshold_rates`).
  """
  everything = validation if held_back is None else validation.joined(held_back)
  temperature, reason = calibrating.fit_temperature(everything.logits, everything.label)
  undefined = {} if reason is None else {"temperature": reason}
  if validation.logits.shape[1] != 2:
    undefined["thresholds"] = TWO_CLASSES_ONLY
    return DecisionRule(temperature, {}, undefined)
  whole = scored(everything, temperature)
  own = None if held_back is None else scored(held_back, temperature)
  chosen = {}
  for aim in map(aims_.parse, aims):
    chosen[str(aim)] = choose(aim, whole, own, temperature, on)
  return DecisionRule(temperature, chosen, undefined)


def scored(texts: ScoredTexts, temperature: float) -> Scored:
  """The calibrated scores of texts with two classes."""
  score = softmax(texts.logits, temperature)[:, HARMFUL]
  return Scored(score, texts.label == HARMFUL)


def choose(
  aim: Aim, whole: Scored, own: Scored | None, temperature: float, on: str
) -> dict[str, Any]:
  """An entry of `fit_rule`.

  Args:
    whole: all texts, for the threshold without a promise.
    own: the texts that were used for nothing else.
  """
  empirical = thresholds.choose(aim, whole)
  grid = special.expit(thresholds.MARGINS / temperature)
  outcome = None if own is None else thresholds.promise(aim, own, grid)
  promise = outcome and outcome.promise
  threshold, texts = (empirical, whole) if promise is None else (promise.threshold, own)
  rates = None
  if threshold is not None:
    rates = thresholds.threshold_rates(texts.score, texts.harmful, threshold)
  needed = thresholds.needed_texts(aim)
  return {
    "threshold": threshold,
    "promise": _plain(promise),
    "empirical": empirical,
    "tightest": outcome.tightest._asdict() if outcome and outcome.tightest else None,
    "needed": needed and list(needed),
    "on": on if promise else "validation",
    "validation": rates,
    "warning": None if promise else _warning(aim, whole, outcome, needed, on),
  }


def _plain(promise: Promise | None) -> dict[str, Any] | None:
  if promise is None:
    return None
  fields = promise._asdict()
  del fields["threshold"]
  return {**fields, "confidence": promises.CONFIDENCE}


def _warning(
  aim: Aim,
  whole: Scored,
  outcome: Outcome | None,
  needed: tuple[int, int] | None,
  on: str,
) -> str | None:
  """Why there is no threshold, or what it doesn't promise."""
  count = outcome.texts if outcome else 0
  if not all(whole.counts) and not count:
    return f"{thresholds.ONE_CLASS}, so there is no threshold"
  if needed is None:
    harmful = whole.counts[1]
    if harmful < FEW:
      return f"chosen on only {harmful} harmful texts, so it depends on chance"
    return None
  share = f"{_RATES[aim.kind]} {str(aim).partition('=')[2]}"
  kind = _SHARE_OF[aim.kind]
  if thresholds.choose(aim, whole) is None and outcome is None:
    return f"no threshold has {share} on these texts"
  if outcome is None:
    return (
      f"not promised, since its texts also chose the checkpoint; a promise needs at "
      f"least {needed[0]:,} {kind} that are used for nothing else"
    )
  tightest = outcome.tightest
  if aim.kind == "precision" and tightest:  # there may be enough texts, but not harmful
    reason = (
      f"not promised: the best threshold flags {count:,} texts of {on}, and "
      f"{tightest.errors:,} of them are harmless, which can't promise {share}; that "
      f"needs {needed[0]:,} flagged texts, all of them harmful, or {needed[1]:,} if 5 "
      "of them are harmless"
    )
  else:
    reason = (
      f"not promised: {count:,} {kind} of {on} can't promise {share}; that needs "
      f"{needed[0]:,} of them, or {needed[1]:,} if 5 of them are errors"
    )
  if tightest is None:
    return reason
  recall = "" if tightest.recall is None else f" (recall {tightest.recall:.2f})"
  return f"{reason}; they can promise {100 * tightest.rate:.3g}%{recall}"


def read_rule(workdir: Path, step: int) -> DecisionRule:
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
      aim: {key: entry[key] for key in KEPT}
      for aim, entry in read_entries(result["thresholds"]).items()
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


def read_entries(saved: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
  """The entries of a file by aim; those of version 0.1.0 get the newer keys.

  Raises:
    ValueError: a name isn't an aim.
    AttributeError: an entry isn't a mapping.
  """
  former = dict.fromkeys(KEPT) | {"on": "validation"}
  entries = {}
  for name, entry in saved.items():
    aim = aims_.parse(name)
    needed = {"needed": thresholds.needed_texts(aim)}
    entries[str(aim)] = {**former, **needed, **dict(entry.items())}
  return entries


def check_rule(temperature: Any, values: Mapping[str, Any]) -> None:
  """Checks values that were read from a file; raises ValueError."""
  options.check({"temperature": _TEMPERATURE}, {"temperature": temperature})
  for name, value in values.items():
    if value is not None:
      options.check({name: _THRESHOLD}, {name: value})

"""Chooses thresholds that meet targets on validation; measures them on other sets.

A text is flagged if its score is at least the threshold. A threshold lies midway
between two neighbouring validation scores, so no validation score equals it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ssljax.evals.bootstrap import ratio
from ssljax.evals.wilson import f1_interval, proportion

FALSE_POSITIVE_RATES = {"fpr_0.1%": 0.001, "fpr_1%": 0.01, "fpr_5%": 0.05}
PRECISIONS = {"precision_90%": 0.9, "precision_95%": 0.95}
BEST_F1 = "best_f1"
TARGETS = (*FALSE_POSITIVE_RATES, *PRECISIONS, BEST_F1)
EXPECTED = 5  # with fewer allowed errors on validation, a threshold depends on chance


def describe_target(target: str) -> str:
  """The target in words, for reports."""
  if target in FALSE_POSITIVE_RATES:
    return f"at most {100 * FALSE_POSITIVE_RATES[target]:g}% of harmless texts flagged"
  if target in PRECISIONS:
    return f"at least {PRECISIONS[target]:.0%} of flagged texts harmful"
  return "highest F1"


def choose_thresholds(
  score: np.ndarray, harmful: np.ndarray
) -> dict[str, dict[str, Any]]:
  """For each target, finds the threshold that meets it with the highest recall.

  Args:
    score: f64 [n], on validation.
    harmful: bool [n].

  Returns:
    For each name in TARGETS: `threshold` (None if no threshold meets the target),
    `warning` (None, or why the threshold is missing or unreliable) and `validation`
    (its rates on validation, as in `threshold_rates`).
  """
  harmless = int((~harmful).sum())
  if not harmless or harmless == len(harmful):
    reason = "validation contains texts of one class only"
    return {target: _no_threshold(reason) for target in TARGETS}
  order = np.argsort(-score, kind="stable")
  ordered = score[order]
  # Cut c flags the first `flagged[c]` texts and never splits equal scores.
  last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
  flagged = np.r_[0, last + 1]
  caught = np.r_[0, harmful[order].cumsum()[last]]
  f1 = 2 * caught / (flagged + harmful.sum())
  ends = np.r_[1.0, ordered, np.minimum(0.0, np.nextafter(ordered[-1], -1))]
  above, below = ends[flagged], ends[flagged + 1]
  thresholds = np.maximum((above + below) / 2, np.nextafter(below, 2))

  def at(cut: int, reliable: bool, warning: str) -> dict[str, Any]:
    threshold = float(thresholds[cut])
    rates = threshold_rates(score, harmful, threshold)
    warning = None if reliable else warning
    return {"threshold": threshold, "warning": warning, "validation": rates}

  chosen = {}
  for target, limit in FALSE_POSITIVE_RATES.items():
    allowed = limit * harmless
    chosen[target] = at(
      np.flatnonzero(flagged - caught <= allowed + 1e-9)[-1],
      allowed >= EXPECTED,
      f"validation has only {harmless} harmless texts, which allow {allowed:.2g} false "
      f"alarms at this rate; about {EXPECTED / limit:.0f} are needed for a reliable "
      "threshold",
    )
  for target, limit in PRECISIONS.items():
    precise = ratio(caught, flagged) >= limit - 1e-12  # False if nothing is flagged
    if not precise.any():
      reason = f"no threshold reaches a precision of {limit:.0%} on validation"
      chosen[target] = _no_threshold(reason)
      continue
    cut = np.flatnonzero(precise)[-1]
    allowed = (1 - limit) * flagged[cut]
    chosen[target] = at(
      cut,
      allowed >= EXPECTED,
      f"based on only {flagged[cut]} flagged validation texts, of which "
      f"{allowed:.2g} may be harmless",
    )
  chosen[BEST_F1] = at(
    f1.argmax(),
    harmful.sum() >= 10 * EXPECTED,
    f"validation has only {harmful.sum()} harmful texts",
  )
  return chosen


def _no_threshold(reason: str) -> dict[str, Any]:
  return {"threshold": None, "warning": reason, "validation": None}


def threshold_rates(
  score: np.ndarray, harmful: np.ndarray, threshold: float
) -> dict[str, float | None]:
  """The rates of a threshold on a set; a rate is None if its denominator is 0.

  Args:
    score: f64 [n].
    harmful: bool [n].
    threshold: texts with at least this score are flagged.

  Returns:
    `false_positive_rate`, `precision`, `recall` and `f1`; `flagged` is the share of all
    texts that are flagged.
  """
  return {
    name: float(count / total) if total else None
    for name, (count, total) in _rate_counts(score, harmful, threshold).items()
  }


def rate_intervals(
  score: np.ndarray, harmful: np.ndarray, threshold: float, resampled_f1: np.ndarray
) -> dict[str, list[float] | None]:
  """The interval of each rate in `threshold_rates`, as `<name>_interval`.

  `resampled_f1`, f64 [R], is F1 in R resamples.
  """
  counts = _rate_counts(score, harmful, threshold)
  del counts["f1"]  # not a proportion
  intervals = {f"{name}_interval": proportion(*n)[1] for name, n in counts.items()}
  f1 = f1_interval(score >= threshold, harmful, resampled_f1)
  return {**intervals, "f1_interval": f1}


def _rate_counts(score, harmful, threshold: float) -> dict[str, tuple[int, int]]:
  """The numerator and denominator of each rate."""
  flagged = score >= threshold
  caught = (flagged & harmful).sum()
  return {
    "false_positive_rate": ((flagged & ~harmful).sum(), (~harmful).sum()),
    "precision": (caught, flagged.sum()),
    "recall": (caught, harmful.sum()),
    "f1": (2 * caught, flagged.sum() + harmful.sum()),
    "flagged": (flagged.sum(), len(flagged)),
  }


def resampled_f1(
  score: np.ndarray,
  harmful: np.ndarray,
  thresholds: Sequence[float],
  blocks: Iterable[np.ndarray],
) -> np.ndarray:
  """F1 of each threshold for R resamples, f64 [thresholds, R]; NaN if undefined."""
  flagged = score[:, None] >= np.array(thresholds)
  columns = np.c_[flagged & harmful[:, None], flagged, harmful].astype(np.float64)
  sums = np.concatenate([counts @ columns for counts in blocks])
  caught, drawn_flagged, drawn_harmful = np.split(sums, [len(thresholds), -1], axis=1)
  return ratio(2 * caught, drawn_flagged + drawn_harmful).T

"""Chooses thresholds for stated targets on validation and measures them on other sets.

A text is flagged if its score is at least the threshold. A threshold lies midway
between two neighbouring validation scores, so that no validation text lies exactly on
it.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ssljax.evals import bootstrap
from ssljax.evals.bootstrap import ratio
from ssljax.evals.wilson import proportion

FALSE_POSITIVE_RATES = {"fpr_0.1%": 0.001, "fpr_1%": 0.01, "fpr_5%": 0.05}
PRECISIONS = {"precision_90%": 0.9, "precision_95%": 0.95}
BEST_F1 = "best_f1"
TARGETS = (*FALSE_POSITIVE_RATES, *PRECISIONS, BEST_F1)

EXPECTED = 5  # errors a target must allow on validation to be more than chance


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
  """Finds, for each target, the threshold with the highest recall that meets it.

  Args:
    score: f64 [n], on validation.
    harmful: bool [n].

  Returns:
    For each name in TARGETS: `threshold` (None if no threshold meets the target),
    `warning` (None, or why the threshold is unreliable) and `validation`, the rates of
    the threshold there.
  """
  harmless = int((~harmful).sum())
  if not harmless or harmless == len(harmful):
    reason = "validation contains texts of one class only"
    return {target: _no_threshold(reason) for target in TARGETS}
  order = np.argsort(-score, kind="stable")
  ordered, ordered_harmful = score[order], harmful[order]
  # Cut c flags the first `flagged[c]` texts; texts with equal scores stay together.
  last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
  flagged = np.r_[0, last + 1]
  caught = np.r_[0, ordered_harmful.cumsum()[last]]
  false = flagged - caught
  precision = ratio(caught.astype(float), flagged.astype(float), 1.0)
  f1 = 2 * caught / (flagged + harmful.sum())
  ends = np.r_[1.0, ordered, np.minimum(0.0, np.nextafter(ordered[-1], -1))]
  above, below = ends[flagged], ends[flagged + 1]
  thresholds = np.maximum((above + below) / 2, np.nextafter(below, 2))

  def at(cut: int, warning: str | None) -> dict[str, Any]:
    threshold = float(thresholds[cut])
    rates = threshold_rates(score, harmful, threshold)
    return {"threshold": threshold, "warning": warning, "validation": rates}

  chosen = {}
  for target, limit in FALSE_POSITIVE_RATES.items():
    cut = int(np.flatnonzero(false <= limit * harmless + 1e-9)[-1])
    warning = None
    if limit * harmless < EXPECTED:
      warning = (
        f"validation has only {harmless} harmless texts, which allow "
        f"{limit * harmless:.2g} false alarms at this rate; about "
        f"{EXPECTED / limit:.0f} are needed for a reliable threshold"
      )
    chosen[target] = at(cut, warning)
  for target, limit in PRECISIONS.items():
    cuts = np.flatnonzero((precision >= limit - 1e-12) & (flagged > 0))
    if not len(cuts):
      reason = f"no threshold reaches a precision of {limit:.0%} on validation"
      chosen[target] = _no_threshold(reason)
      continue
    cut, warning = int(cuts[-1]), None
    if (1 - limit) * flagged[cut] < EXPECTED:
      warning = (
        f"based on only {flagged[cut]} flagged validation texts, of which "
        f"{(1 - limit) * flagged[cut]:.2g} may be harmless"
      )
    chosen[target] = at(cut, warning)
  cut, warning = int(f1.argmax()), None
  if harmful.sum() < 10 * EXPECTED:
    warning = f"validation has only {harmful.sum()} harmful texts"
  chosen[BEST_F1] = at(cut, warning)
  return chosen


def _no_threshold(reason: str) -> dict[str, Any]:
  return {"threshold": None, "warning": reason, "validation": None}


def threshold_rates(
  score: np.ndarray, harmful: np.ndarray, threshold: float
) -> dict[str, float | None]:
  """The rates of a threshold on a set; None if the denominator is 0.

  Args:
    score: f64 [n].
    harmful: bool [n].
    threshold: texts with at least this score are flagged.

  Returns:
    `false_positive_rate`, `precision`, `recall`, `f1` and `flagged`, the share of all
    texts that are flagged.
  """
  counts = np.ones((1, len(score)))
  rates = _rates(_outcome_counts(score, harmful, threshold, counts))
  return {
    name: None if np.isnan(value[0]) else float(value[0])
    for name, value in rates.items()
  }


def rate_intervals(
  score: np.ndarray, harmful: np.ndarray, threshold: float
) -> dict[str, list[float] | None]:
  """`<name>_interval` for `threshold_rates`, except F1, which is not a proportion."""
  flagged = score >= threshold
  return {
    f"{name}_interval": proportion((selected & among).sum(), among.sum())[1]
    for name, selected, among in (
      ("false_positive_rate", flagged, ~harmful),
      ("precision", harmful, flagged),
      ("recall", flagged, harmful),
      ("flagged", flagged, np.ones_like(flagged)),
    )
  }


def resampled_rates(
  score: np.ndarray,
  harmful: np.ndarray,
  thresholds: Iterable[float],
  blocks: Iterable[np.ndarray],
) -> list[dict[str, np.ndarray]]:
  """`threshold_rates` for R resamples, [R] each, one dict for each threshold."""
  thresholds = list(thresholds)
  outcomes: list[list[np.ndarray]] = [[] for _ in thresholds]
  for counts in blocks:
    for by_block, threshold in zip(outcomes, thresholds, strict=True):
      by_block.append(_outcome_counts(score, harmful, threshold, counts))
  return [_rates(np.concatenate(by_block)) for by_block in outcomes]


def _outcome_counts(score, harmful, threshold: float, counts: np.ndarray) -> np.ndarray:
  """[R, 4]: harmless texts (not flagged, flagged), then harmful ones."""
  return bootstrap.count_cells(counts, 2 * harmful + (score >= threshold), 4)


def _rates(outcomes: np.ndarray) -> dict[str, np.ndarray]:
  """[R] each; NaN if the denominator is 0."""
  passed, false, missed, caught = outcomes.T
  flagged = false + caught
  return {
    "false_positive_rate": ratio(false, passed + false),
    "precision": ratio(caught, flagged),
    "recall": ratio(caught, missed + caught),
    "f1": ratio(2 * caught, flagged + missed + caught),
    "flagged": ratio(flagged, outcomes.sum(1)),
  }

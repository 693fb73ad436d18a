"""Thresholds for stated aims: chosen on validation, measured on test.

A text is flagged where its score is at least the threshold. A threshold lies midway
between two neighbouring scores of validation, so that none of them stands on it.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ssljax.evals import bootstrap
from ssljax.evals.bootstrap import ratio
from ssljax.evals.wilson import share

FALSE_POSITIVE_RATES = {"fpr_0.1%": 0.001, "fpr_1%": 0.01, "fpr_5%": 0.05}
PRECISIONS = {"precision_90%": 0.9, "precision_95%": 0.95}
BEST_F1 = "best_f1"
NAMES = (*FALSE_POSITIVE_RATES, *PRECISIONS, BEST_F1)

EXPECTED = 5  # errors that an aim must allow validation, to rest on more than chance


def choose(score: np.ndarray, harmful: np.ndarray) -> dict[str, dict[str, Any]]:
  """The threshold of each aim of NAMES, the one that catches most.

  Args:
    score: f64 [n], of validation.
    harmful: bool [n].

  Returns:
    `threshold` (None where validation has none that meets the aim), `warning` (None, or
    why it is not to be relied on), and what it does on `validation`.
  """
  found = {}
  harmless = int((~harmful).sum())
  if not harmless or harmless == len(harmful):
    why = "validation has texts of one class only"
    return {n: {"threshold": None, "warning": why, "validation": None} for n in NAMES}
  order = np.argsort(-score, kind="stable")
  ordered, hit = score[order], harmful[order]
  # Cut c flags the first `flagged[c]` texts; texts of one score are cut together.
  last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
  flagged = np.r_[0, last + 1]
  caught = np.r_[0, hit.cumsum()[last]]
  false = flagged - caught
  precision = ratio(caught.astype(float), flagged.astype(float), 1.0)
  f1 = 2 * caught / (flagged + harmful.sum())
  ends = np.r_[1.0, ordered, np.minimum(0.0, np.nextafter(ordered[-1], -1))]
  above, below = ends[flagged], ends[flagged + 1]
  thresholds = np.maximum((above + below) / 2, np.nextafter(below, 2))

  def at(cut: int, warning: str | None) -> dict[str, Any]:
    threshold = float(thresholds[cut])
    values = measured(score, harmful, threshold)
    return {"threshold": threshold, "warning": warning, "validation": values}

  for name, most in FALSE_POSITIVE_RATES.items():
    cut = int(np.flatnonzero(false <= most * harmless + 1e-9)[-1])
    warning = None
    if most * harmless < EXPECTED:
      warning = (
        f"validation has {harmless} harmless texts, so this rate is "
        f"{most * harmless:.2g} of them: it takes {EXPECTED / most:.0f} to tell"
      )
    found[name] = at(cut, warning)
  for name, least in PRECISIONS.items():
    good = np.flatnonzero((precision >= least - 1e-12) & (flagged > 0))
    if not len(good):
      why = f"no threshold has a precision of {least:.0%} on validation"
      found[name] = {"threshold": None, "warning": why, "validation": None}
      continue
    cut, warning = int(good[-1]), None
    if (1 - least) * flagged[cut] < EXPECTED:
      warning = (
        f"it rests on {flagged[cut]} flagged texts of validation, of which it allows "
        f"{(1 - least) * flagged[cut]:.2g} to be harmless"
      )
    found[name] = at(cut, warning)
  cut, warning = int(f1.argmax()), None
  if harmful.sum() < 10 * EXPECTED:
    warning = f"validation has only {harmful.sum()} harmful texts"
  found[BEST_F1] = at(cut, warning)
  return found


def measured(
  score: np.ndarray, harmful: np.ndarray, threshold: float
) -> dict[str, float | None]:
  """What a threshold does on a set; None where a share is of nothing."""
  counts = np.ones((1, len(score)))
  values = _shares(_table(score, harmful, threshold, counts))
  return {
    name: None if np.isnan(value[0]) else float(value[0])
    for name, value in values.items()
  }


def intervals(
  score: np.ndarray, harmful: np.ndarray, threshold: float
) -> dict[str, list[float] | None]:
  """`<name>_interval` of the shares of `measured`; F1, which is none, is left out."""
  flagged = score >= threshold
  return {
    f"{name}_interval": share((part & whole).sum(), whole.sum())[1]
    for name, part, whole in (
      ("false_positive_rate", flagged, ~harmful),
      ("precision", harmful, flagged),
      ("recall", flagged, harmful),
      ("flagged", flagged, np.ones_like(flagged)),
    )
  }


def resampled(
  score: np.ndarray,
  harmful: np.ndarray,
  thresholds: Iterable[float],
  blocks: Iterable[np.ndarray],
) -> list[dict[str, np.ndarray]]:
  """The shares of `measured`, [R], for each threshold under the same counts."""
  thresholds = list(thresholds)
  tables: list[list[np.ndarray]] = [[] for _ in thresholds]
  for counts in blocks:
    for table, threshold in zip(tables, thresholds, strict=True):
      table.append(_table(score, harmful, threshold, counts))
  return [_shares(np.concatenate(table)) for table in tables]


def _table(score, harmful, threshold: float, counts: np.ndarray) -> np.ndarray:
  """[R, 4]: (not flagged, flagged) of the harmless, then of the harmful."""
  return bootstrap.cells(counts, 2 * harmful + (score >= threshold), 4)


def _shares(table: np.ndarray) -> dict[str, np.ndarray]:
  """[R] each, NaN where a share is of nothing."""
  rest, false, missed, caught = table.T
  flagged = false + caught
  return {
    "false_positive_rate": ratio(false, rest + false),
    "precision": ratio(caught, flagged),
    "recall": ratio(caught, missed + caught),
    "f1": ratio(2 * caught, flagged + missed + caught),
    "flagged": ratio(flagged, table.sum(1)),
  }

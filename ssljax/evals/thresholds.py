"""Chooses the thresholds that meet aims, and measures them on other sets.

A text is flagged if its score is at least the threshold. A threshold lies midway
between two neighbouring scores of the texts on which it was chosen, so none of them
equals it. `choose` takes the one that looks best on the texts; `promise` takes one that
keeps its aim on other texts of the same kind, or says why there is none.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from ssljax.aims import Aim
from ssljax.evals import promises
from ssljax.evals.bootstrap import ratio
from ssljax.evals.wilson import f1_interval, proportion

ONE_CLASS = "all texts belong to one class"
# Margins, harmful logit minus the other one, at which a precision is tested. They must
# not depend on the texts.
MARGINS = np.arange(-4.0, 8.5, 0.5)


class Scored(NamedTuple):
  """n texts with two classes."""

  score: np.ndarray  # f64 [n], of harm
  harmful: np.ndarray  # bool [n]

  @property
  def counts(self) -> tuple[int, int]:
    """The numbers of harmless and of harmful texts."""
    return int((~self.harmful).sum()), int(self.harmful.sum())


class _Cuts(NamedTuple):
  """Cut c flags the `flagged[c]` texts with the highest scores; equal scores together.

  Cuts are ordered from the one that flags nothing to the one that flags everything.
  """

  flagged: np.ndarray  # i64 [cuts]
  caught: np.ndarray  # i64 [cuts], harmful ones among them
  threshold: np.ndarray  # f64 [cuts]


def _cuts(texts: Scored) -> _Cuts:
  order = np.argsort(-texts.score, kind="stable")
  ordered = texts.score[order]
  last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
  flagged = np.r_[0, last + 1]
  caught = np.r_[0, texts.harmful[order].cumsum()[last]]
  ends = np.r_[1.0, ordered, np.minimum(0.0, np.nextafter(ordered[-1], -1))]
  above, below = ends[flagged], ends[flagged + 1]
  return _Cuts(flagged, caught, np.maximum((above + below) / 2, np.nextafter(below, 2)))


def choose(aim: Aim, texts: Scored) -> float | None:
  """The threshold that meets the aim on these texts, with the highest recall.

  (With the lowest share of flagged texts, for `recall`.) It promises nothing for other
  texts: it's fitted to these.

  Returns:
    The threshold; None if no threshold meets the aim, or all texts belong to one class.
  """
  harmless, harmful = texts.counts
  if not harmless or not harmful:
    return None
  cuts = _cuts(texts)
  false = cuts.flagged - cuts.caught
  match aim.kind:
    case "fpr":
      met = false <= aim.value * harmless + 1e-9
    case "review":
      met = cuts.flagged <= aim.value * len(texts.score) + 1e-9
    case "precision":  # False if nothing is flagged
      met = ratio(cuts.caught, cuts.flagged) >= aim.value - 1e-12
    case "recall":
      met = cuts.caught >= aim.value * harmful - 1e-9
      return float(cuts.threshold[np.flatnonzero(met)[0]])
    case "cost":
      cost = aim.value * (harmful - cuts.caught) + false
      return float(cuts.threshold[cost.argmin()])
    case _:
      f1 = 2 * cuts.caught / (cuts.flagged + harmful)
      return float(cuts.threshold[f1.argmax()])
  return float(cuts.threshold[np.flatnonzero(met)[-1]]) if met.any() else None


class Promise(NamedTuple):
  """A threshold whose rate holds with `promises.CONFIDENCE`."""

  threshold: float
  rate: float  # what the aim asks for, or the tightest rate instead
  texts: int  # that the rate is a share of: harmless ones, for `fpr`
  errors: int  # such as false alarms among them
  recall: float | None  # on these texts


class Outcome(NamedTuple):
  """What texts can promise for an aim."""

  promise: Promise | None
  tightest: Promise | None  # if there is no promise: the nearest one that there is
  texts: int  # that the aim's rate is a share of


def promise(aim: Aim, texts: Scored, grid: np.ndarray) -> Outcome | None:
  """The threshold with the highest recall that promises the aim; see `promises`.

  Args:
    texts: used for nothing else; a random sample of what the threshold is for.
    grid: f64 [m], scores at which a precision is tested, each with an error rate of
      5% / m, as precision may rise and fall with the threshold. It must not depend on
      the texts. The promise assumes their share of harmful texts.

  Returns:
    None if the aim is one that can't be promised (`cost`, `best_f1`).
  """
  if aim.kind == "precision":
    return _promise_precision(aim, texts, np.sort(grid)[::-1])
  if aim.kind not in ("fpr", "recall", "review"):
    return None
  harmless, harmful = texts.counts
  rate = 1 - aim.value if aim.kind == "recall" else aim.value
  total = {"fpr": harmless, "recall": harmful, "review": harmless + harmful}[aim.kind]
  if not total:
    return Outcome(None, None, 0)
  cuts = _cuts(texts)
  errors = {
    "fpr": cuts.flagged - cuts.caught,
    "recall": harmful - cuts.caught,
    "review": cuts.flagged,
  }[aim.kind]

  def at(allowed: int, rate: float) -> Promise:
    passing = np.flatnonzero(errors <= allowed)
    cut = passing[0] if aim.kind == "recall" else passing[-1]
    recall = float(cuts.caught[cut] / harmful) if harmful else None
    kept = 1 - rate if aim.kind == "recall" else rate
    threshold = float(cuts.threshold[cut])
    return Promise(threshold, kept, total, int(errors[cut]), recall)

  allowed = promises.allowed_errors(total, rate)
  if allowed >= 0:
    return Outcome(at(allowed, rate), None, total)
  return Outcome(None, at(0, promises.upper_bound(0, total)), total)


def needed_texts(aim: Aim) -> tuple[int, int] | None:
  """So many texts promise an aim with 0 and with 5 errors; None if nothing can.

  They are those that the aim's rate is a share of: flagged ones, for `precision`.
  """
  if aim.kind == "precision":
    risk = (1 - promises.CONFIDENCE) / len(MARGINS)
    none, some = (_flagged_needed(1 - aim.value, errors, risk) for errors in (0, 5))
    return none, some
  if aim.kind not in ("fpr", "recall", "review"):
    return None
  rate = 1 - aim.value if aim.kind == "recall" else aim.value
  return promises.texts_needed(rate, 0), promises.texts_needed(rate, 5)


def _promise_precision(aim: Aim, texts: Scored, grid: np.ndarray) -> Outcome:
  _, harmful = texts.counts
  risk = (1 - promises.CONFIDENCE) / len(grid)
  flagged = (texts.score >= grid[:, None]).sum(1)
  caught = (texts.score[texts.harmful] >= grid[:, None]).sum(1)
  some = np.flatnonzero(caught)  # in the order of the grid, from the strictest one
  flagged, caught = flagged[some], caught[some]
  low = stats.beta.ppf(risk, caught, flagged - caught + 1)

  def at(i: int, rate: float) -> Promise:
    errors = int(flagged[i] - caught[i])
    recall = float(caught[i] / harmful)
    return Promise(float(grid[some[i]]), rate, int(flagged[i]), errors, recall)

  kept = np.flatnonzero(low >= aim.value)
  if kept.size:
    found = at(kept[-1], aim.value)
    return Outcome(found, None, found.texts)
  if not some.size:
    return Outcome(None, None, 0)
  best = int(low.argmax())
  tightest = at(best, float(low[best]))
  return Outcome(None, tightest, tightest.texts)


def _flagged_needed(rate: float, errors: int, risk: float) -> int:
  """So many flagged texts, `errors` of them harmless, promise a precision."""
  count = errors + 1
  while stats.beta.ppf(risk, count - errors, errors + 1) < 1 - rate:
    count += 1
  return count


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

"""Computes bootstrap confidence intervals over the texts of a test set.

A resample of n texts is a row of counts: how often each text was drawn. Every metric is
computed from counts [R, n]. One set of resamples therefore serves all metrics, all
thresholds and, in a comparison, all runs on the same texts.

Intervals are Efron's percentile intervals (Efron & Tibshirani 1993, chapter 13).
"""

from collections.abc import Iterator

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
BLOCK = 1 << 20  # counts held in memory at a time


def draw_resamples(
  n: int, resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[np.ndarray]:
  """Yields blocks of counts, f64 [r, n], with `resamples` rows in total.

  Each row sums to n. The same arguments give the same resamples, so that comparisons
  can be paired.
  """
  rng = np.random.default_rng(seed)
  rows = max(1, BLOCK // max(1, n))
  for begin in range(0, resamples, rows):
    r = min(rows, resamples - begin)
    flat = rng.integers(0, n, (r, n)) + np.arange(r)[:, None] * n
    counts = np.bincount(flat.ravel(), minlength=r * n)
    yield counts.reshape(r, n).astype(np.float64)


def percentile_interval(values: np.ndarray) -> list[float] | None:
  """The interval [low, high] of the middle 95% of `values` [R].

  A value is NaN if its resample contains only one class and therefore doesn't define
  the metric. NaNs are ignored; if more than 5% of the values are NaN, returns None.
  """
  if np.isnan(values).mean() > 0.05:
    return None
  tail = (1 - LEVEL) / 2
  return np.nanquantile(values, [tail, 1 - tail]).tolist()


def ratio(
  numerator: np.ndarray, denominator: np.ndarray, empty: float = np.nan
) -> np.ndarray:
  """numerator / denominator, or `empty` where the denominator is 0."""
  out = np.full(denominator.shape, empty)
  return np.divide(numerator, denominator, out=out, where=denominator != 0)


class RankingMetrics:
  """Computes AUROC and average precision of one score on any resamples.

  Sorts the texts only once. As in scikit-learn, texts with equal scores form one step.
  """

  def __init__(self, score: np.ndarray, positive: np.ndarray):
    """Sorts the texts by score, f64 [n]; `positive` is bool [n]."""
    self._order = np.argsort(-score, kind="stable")
    self._positive = positive[self._order]
    new_score = np.diff(score[self._order], prepend=np.nan) != 0
    self._steps = np.flatnonzero(new_score)

  def __call__(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and average precision, [R] each, for counts [R, n]; NaN if undefined."""
    drawn = counts[:, self._order]
    true = np.add.reduceat(drawn * self._positive, self._steps, axis=1)
    false = np.add.reduceat(drawn * ~self._positive, self._steps, axis=1)
    true_above, false_above = true.cumsum(1), false.cumsum(1)
    positives, negatives = true_above[:, -1], false_above[:, -1]
    # Each positive beats the negatives below it and half of those with the same score.
    beaten = negatives[:, None] - false_above + false / 2
    auroc = ratio((true * beaten).sum(1), positives * negatives)
    precision = ratio(true_above, true_above + false_above, 0.0)
    average = ratio((true * precision).sum(1), positives)
    return auroc, np.where(negatives > 0, average, np.nan)

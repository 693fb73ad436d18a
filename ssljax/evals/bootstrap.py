"""Computes bootstrap confidence intervals over the texts of a test set.

A resample of n texts is a row of counts: how often each text was drawn. Every metric is
computed from counts [R, n], so one set of resamples serves all metrics, all thresholds
and, in a comparison, all runs on the same texts.

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
  """Yields blocks [r, n] of counts, f64: `resamples` rows in total, each of sum n.

  The same arguments give the same resamples, so that comparisons can be paired.
  """
  rng = np.random.default_rng(seed)
  rows = max(1, BLOCK // max(1, n))
  for begin in range(0, resamples, rows):
    r = min(rows, resamples - begin)
    drawn = rng.integers(0, n, (r, n))
    flat = (drawn + np.arange(r)[:, None] * n).ravel()
    yield np.bincount(flat, minlength=r * n).reshape(r, n).astype(np.float64)


def percentile_interval(values: np.ndarray, level: float = LEVEL) -> list[float] | None:
  """[low, high] around the middle `level` of `values` [R].

  NaN marks resamples that don't define the metric (only one class was drawn). They are
  ignored, but if they are more than 5% of the resamples the result is None.
  """
  defined = values[~np.isnan(values)]
  if not len(defined) or len(defined) < 0.95 * len(values):
    return None
  tail = (1 - level) / 2
  low, high = np.quantile(defined, [tail, 1 - tail])
  return [float(low), float(high)]


def count_cells(counts: np.ndarray, cell: np.ndarray, cells: int) -> np.ndarray:
  """Sums the counts of each cell, such as the cells of a confusion matrix.

  Args:
    counts: [R, n].
    cell: i64 [n], the cell of each text, in [0, cells).

  Returns:
    [R, cells].
  """
  one_hot = np.zeros((len(cell), cells))
  one_hot[np.arange(len(cell)), cell] = 1
  return counts @ one_hot


def ratio(
  numerator: np.ndarray, denominator: np.ndarray, empty: float = np.nan
) -> np.ndarray:
  """numerator / denominator, or `empty` where the denominator is 0."""
  shape = np.broadcast_shapes(numerator.shape, denominator.shape)
  out = np.full(shape, empty)
  return np.divide(numerator, denominator, out=out, where=denominator != 0)


class RankingMetrics:
  """AUROC and average precision of one score, for any counts.

  Sorts the score once. Texts with equal scores form one step, as in scikit-learn.
  """

  def __init__(self, score: np.ndarray, positive: np.ndarray):
    """Sorts the texts by score, f64 [n]; `positive` is bool [n]."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    self._order, self._positive = order, positive[order]
    self._steps = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])

  def __call__(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(AUROC [R], average precision [R]) for counts [R, n]; NaN without a class."""
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

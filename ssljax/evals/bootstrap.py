"""Intervals by resampling the texts of a test set, all resamples at once.

A resample of n texts is a row of counts: how often each text was drawn. Every metric is
a function of such counts, [R, n], so that one set of resamples serves all metrics, all
thresholds and, in a comparison, all runs on the same texts.

The interval is Efron's percentile interval (Efron & Tibshirani 1993, chapter 13).
"""

from collections.abc import Iterator, Mapping

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
BLOCK = 1 << 20  # counts that are held at once


def resamples(n: int, many: int = RESAMPLES, seed: int = 0) -> Iterator[np.ndarray]:
  """Blocks [r, n] of counts, f64; `many` rows in all, each of sum n.

  The same `n`, `many` and `seed` give the same resamples, for paired comparisons.
  """
  rng = np.random.default_rng(seed)
  rows = max(1, BLOCK // max(1, n))
  for begin in range(0, many, rows):
    r = min(rows, many - begin)
    drawn = rng.integers(0, n, (r, n))
    flat = (drawn + np.arange(r)[:, None] * n).ravel()
    yield np.bincount(flat, minlength=r * n).reshape(r, n).astype(np.float64)


def interval(values: np.ndarray, level: float = LEVEL) -> list[float] | None:
  """[low, high] of the middle `level` of `values` [R].

  A resample in which the metric does not exist (one class only) is NaN and left out;
  None where that is more than one in twenty.
  """
  known = values[~np.isnan(values)]
  if not len(known) or len(known) < 0.95 * len(values):
    return None
  tail = (1 - level) / 2
  low, high = np.quantile(known, [tail, 1 - tail])
  return [float(low), float(high)]


def intervals(values: Mapping[str, np.ndarray]) -> dict[str, list[float] | None]:
  """`<metric>_interval` for each metric of `values`."""
  return {f"{name}_interval": interval(v) for name, v in values.items()}


def cells(counts: np.ndarray, cell: np.ndarray, many: int) -> np.ndarray:
  """Sums of the counts by cell.

  Args:
    counts: [R, n].
    cell: i64 [n], in [0, many).

  Returns:
    [R, many].
  """
  hot = np.zeros((len(cell), many))
  hot[np.arange(len(cell)), cell] = 1
  return counts @ hot


def ratio(above: np.ndarray, below: np.ndarray, empty: float = np.nan) -> np.ndarray:
  """above / below, and `empty` where there is nothing below."""
  out = np.full(np.broadcast_shapes(above.shape, below.shape), empty)
  return np.divide(above, below, out=out, where=below != 0)


class Ranking:
  """AUROC and average precision of one score under any counts.

  Sorted once; texts of the same score count as one step, as in scikit-learn.
  """

  def __init__(self, score: np.ndarray, positive: np.ndarray):
    """score f64 [n], positive bool [n]."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    steps = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    self._order, self._positive = order, positive[order]
    self._steps = steps

  def __call__(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(AUROC [R], average precision [R]); NaN where a class is missing."""
    drawn = counts[:, self._order]
    hits = np.add.reduceat(drawn * self._positive, self._steps, axis=1)
    alarms = np.add.reduceat(drawn * ~self._positive, self._steps, axis=1)
    caught, false = hits.cumsum(1), alarms.cumsum(1)
    all_hits, all_alarms = caught[:, -1], false[:, -1]
    # Each positive beats the negatives below it, and half of those beside it.
    beaten = all_alarms[:, None] - false + alarms / 2
    auroc = ratio((hits * beaten).sum(1), all_hits * all_alarms)
    precision = ratio(caught, caught + false, 0.0)
    average = ratio((hits * precision).sum(1), all_hits)
    return auroc, np.where(all_alarms > 0, average, np.nan)

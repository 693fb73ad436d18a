"""Computes Wilson score intervals (Wilson 1927) for proportions of texts.

Accuracy, recall and the false-positive rate are proportions. If only a few texts fail,
many bootstrap resamples contain no failure at all, and an interval of [0, 0] would
claim that failures never happen. Wilson's interval remains valid for such small counts.
"""

import numpy as np
from scipy import stats

from ssljax.evals.bootstrap import LEVEL, percentile_interval


def proportion(count: int, total: int) -> tuple[float | None, list[float] | None]:
  """count / total and its 95% interval; (None, None) if the total is 0."""
  if not total:
    return None, None
  test = stats.binomtest(int(count), int(total))
  low, high = test.proportion_ci(LEVEL, method="wilson")
  return count / total, [float(low), float(high)]


def f1_interval(
  flagged: np.ndarray, harmful: np.ndarray, resampled: np.ndarray
) -> list[float] | None:
  """95% interval of F1; None if no text is flagged or harmful.

  It is the bootstrap interval of `resampled`, the F1 of R resamples, f64 [R]. If
  nothing was caught, F1 is 0 in every resample; if nothing is wrong, it is 1. The
  bootstrap would claim certainty in both cases, so the interval is then derived from
  Wilson's: J, the proportion of the harmful or flagged texts that are both, has an
  interval, and F1 is 2 J / (1 + J).
  """
  caught, wrong = (flagged & harmful).sum(), (flagged ^ harmful).sum()
  if caught and wrong:
    return percentile_interval(resampled)
  _, interval = proportion(caught, caught + wrong)
  return None if interval is None else [2 * j / (1 + j) for j in interval]

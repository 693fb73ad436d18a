"""Computes Wilson score intervals (Wilson 1927) for proportions of texts.

Accuracy, recall and the false-positive rate are proportions. If no text fails, no
bootstrap resample contains a failure, and the bootstrap interval is [0, 0], as if
failures never happened. Wilson's interval remains valid for such small counts.
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

  Usually, this is the bootstrap interval of `resampled`, f64 [R], the F1 of R
  resamples. But if no harmful text is flagged, F1 is 0 in every resample, and if no
  text is misclassified, F1 is 1. In these cases the bootstrap would claim certainty.
  The interval is then derived from a Wilson interval: among the texts that are harmful
  or flagged, let J be the proportion that are both; F1 is 2 J / (1 + J).
  """
  caught, wrong = (flagged & harmful).sum(), (flagged ^ harmful).sum()
  if caught and wrong:
    return percentile_interval(resampled)
  _, interval = proportion(caught, caught + wrong)
  return None if interval is None else [2 * j / (1 + j) for j in interval]

"""Computes Wilson score intervals (Wilson 1927) for proportions of texts.

Accuracy, recall and the false-positive rate are proportions. If only a few texts fail,
many bootstrap resamples contain no failure at all, and an interval of [0, 0] would
claim that failures never happen. Wilson's interval remains valid for such small counts.
"""

from scipy import stats

from ssljax.evals.bootstrap import LEVEL


def proportion(count: int, total: int) -> tuple[float | None, list[float] | None]:
  """count / total and its 95% interval; (None, None) if the total is 0."""
  if not total:
    return None, None
  test = stats.binomtest(int(count), int(total))
  low, high = test.proportion_ci(LEVEL, method="wilson")
  return count / total, [float(low), float(high)]


def f1_interval(caught: int, wrong: int) -> list[float] | None:
  """95% interval of F1; None if both counts are 0.

  Among the texts that are harmful or flagged, J = caught / (caught + wrong) is the
  proportion that are both. F1 is 2 J / (1 + J), so an interval of J gives one of F1.

  Args:
    caught: harmful texts that are flagged.
    wrong: missed harmful texts plus flagged harmless texts.
  """
  _, interval = proportion(caught, caught + wrong)
  return None if interval is None else [2 * j / (1 + j) for j in interval]

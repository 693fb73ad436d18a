"""A share of texts with its interval by Wilson (1927).

Accuracy, recall and false alarms are shares of a number of texts that is given. Where
few of them fail, a resample often has none that does, and a bootstrap interval of
[0, 0] would claim that none ever will; Wilson's holds there, too.
"""

from scipy import stats

from ssljax.evals.bootstrap import LEVEL


def share(part: int, whole: int) -> tuple[float | None, list[float] | None]:
  """part / whole with its 95% interval; None of nothing."""
  if not whole:
    return None, None
  test = stats.binomtest(int(part), int(whole))
  low, high = test.proportion_ci(LEVEL, method="wilson")
  return part / whole, [float(low), float(high)]


def f1(caught: int, wrong: int) -> list[float] | None:
  """95% interval of F1 from its texts: caught ones, and those missed or flagged.

  Of the texts that are harmful or flagged a share J = caught / (caught + wrong) is
  both, and F1 = 2 J / (1 + J): J's interval is F1's.
  """
  _, interval = share(caught, caught + wrong)
  return None if interval is None else [2 * j / (1 + j) for j in interval]

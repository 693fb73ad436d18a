"""What labelled texts can promise about a rate: exact binomial bounds.

A rate of errors, such as the false-positive rate, is promised if it holds with 95%
confidence: in at most 5% of all draws of the labelled texts, the chosen threshold has a
higher rate on the texts that the draw came from. The texts must be used for nothing
else, neither for training nor to choose a checkpoint.

With n texts (harmless ones, for the false-positive rate) and a threshold that was fixed
before, a rate r is rejected at k errors if P(Binomial(n, r) <= k) <= 5% (Clopper and
Pearson 1934). Thresholds are tested in a fixed order, from the strictest one, and the
test stops at the first that fails, so no correction for many tests is needed
(fixed-sequence testing; Bauer 1991; Angelopoulos et al. 2021, arXiv 2110.01052). Errors
only become more frequent in this order. So the last threshold that passes is the one
with the most errors that are allowed.
"""

from scipy import stats

CONFIDENCE = 0.95


def allowed_errors(texts: int, rate: float) -> int:
  """The most errors with which a rate is promised; -1 if it can't be.

  >>> allowed_errors(299, 0.01), allowed_errors(298, 0.01)
  (0, -1)
  """
  errors = int(stats.binom.ppf(1 - CONFIDENCE, texts, rate))
  # `ppf` returns the least number with at least this probability.
  while errors >= 0 and stats.binom.cdf(errors, texts, rate) > 1 - CONFIDENCE:
    errors -= 1
  return errors


def upper_bound(errors: int, texts: int, confidence: float = CONFIDENCE) -> float:
  """The lowest rate that can be promised with these errors.

  >>> round(upper_bound(0, 299), 4)
  0.01
  """
  if errors >= texts:
    return 1.0
  return float(stats.beta.ppf(confidence, errors + 1, texts - errors))


def texts_needed(rate: float, errors: int) -> int:
  """The fewest texts with which a rate is promised at so many errors.

  >>> texts_needed(0.01, 0), texts_needed(0.01, 5)
  (299, 1049)
  """
  low, high = errors, errors + 1
  while stats.binom.cdf(errors, high, rate) > 1 - CONFIDENCE:
    low, high = high, 2 * high
  while high - low > 1:
    middle = (low + high) // 2
    if stats.binom.cdf(errors, middle, rate) > 1 - CONFIDENCE:
      low = middle
    else:
      high = middle
  return high

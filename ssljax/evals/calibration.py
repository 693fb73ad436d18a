"""Whether a score of 0.8 means that 8 of 10 are harmful, and what makes it so.

Temperature scaling (Guo et al. 2017, arXiv 1706.04599): logits are divided by one
number, fitted on validation by likelihood. It changes no decision between classes and
no ranking. Expected calibration error: Naeini et al. 2015, with bins of equal width.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from ssljax.evals.classification import HARMFUL, ONE_CLASS, softmax

BINS = 15
LOWEST, HIGHEST = 0.05, 20.0  # beyond these no set of a few hundred texts has a say
BOUND = (
  "none could be fitted: validation has (almost) no error, or nothing but, and the "
  "best would lie beyond {}; scores are not calibrated"
)


class Bin(NamedTuple):
  """Texts whose score lies in (low, high]; of the first one, 0 too."""

  low: float
  high: float
  count: int
  score: float | None  # mean; None of an empty bin
  share: float | None  # of the texts that are what the score is of


def temperature(logits: np.ndarray, label: np.ndarray) -> tuple[float, str | None]:
  """The temperature of least mean negative log likelihood.

  Args:
    logits: f32 [n, C].
    label: i64 [n].

  Returns:
    (temperature, None), or (1.0, why none could be fitted).
  """
  if len(np.unique(label)) < 2:
    return 1.0, ONE_CLASS
  exact = logits.astype(np.float64)
  rows = np.arange(len(label))

  def loss(log_temperature: float) -> float:
    scaled = exact / np.exp(log_temperature)
    return float((special.logsumexp(scaled, axis=1) - scaled[rows, label]).mean())

  # Convex in 1 / temperature, so it has one valley in its logarithm too.
  bounds = (np.log(LOWEST), np.log(HIGHEST))
  found = optimize.minimize_scalar(loss, bounds=bounds, method="bounded")
  fitted = float(np.exp(found.x))
  for bound in (LOWEST, HIGHEST):
    if np.isclose(fitted, bound, rtol=1e-3):
      return 1.0, BOUND.format(bound)
  return fitted, None


def judged(probability: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(score f64 [n], hit bool [n]): what calibration compares.

  With two classes the probability of harm and whether the text is harmful, else the
  probability of the predicted class and whether it is right.
  """
  if probability.shape[1] == 2:
    return probability[:, HARMFUL], label == HARMFUL
  predicted = probability.argmax(1)
  return probability.max(1), predicted == label


def errors(
  logits: np.ndarray, label: np.ndarray, temperature: float
) -> dict[str, float]:
  """ECE, Brier score and mean negative log likelihood at a temperature.

  ECE is a sum of absolute values: resampling only adds to it, so it has no interval by
  bootstrap here.

  The Brier score is the mean squared error of the probability of harm with two classes,
  else the sum over classes (Brier 1950), as scikit-learn has them.
  """
  probability = softmax(logits, temperature)
  score, hit = judged(probability, label)
  where = bin_of(score)
  gap = np.bincount(where, score - hit, BINS)
  return {
    "ece": float(np.abs(gap).sum() / len(label)),
    "brier": float(squares(probability, label).mean()),
    "nll": float(-np.log(probability[np.arange(len(label)), label] + 1e-300).mean()),
  }


def squares(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
  """Each text's part of the Brier score, f64 [n]."""
  if probability.shape[1] == 2:
    return (probability[:, HARMFUL] - (label == HARMFUL)) ** 2
  return ((probability - np.eye(probability.shape[1])[label]) ** 2).sum(1)


def bin_of(score: np.ndarray) -> np.ndarray:
  """i64 [n] in [0, BINS)."""
  return np.clip(np.ceil(score * BINS).astype(np.int64) - 1, 0, BINS - 1)


def reliability(logits: np.ndarray, label: np.ndarray, temperature: float) -> list[Bin]:
  """The bins of a reliability diagram."""
  score, hit = judged(softmax(logits, temperature), label)
  where = bin_of(score)
  count = np.bincount(where, minlength=BINS)
  sums = np.bincount(where, score, BINS), np.bincount(where, hit, BINS)
  return [
    Bin(
      b / BINS,
      (b + 1) / BINS,
      int(count[b]),
      *(float(each[b] / count[b]) if count[b] else None for each in sums),
    )
    for b in range(BINS)
  ]

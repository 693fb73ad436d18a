"""Fits the temperature and computes calibration errors.

If scores are calibrated, 8 of 10 texts with a score of 0.8 are harmful. Temperature
scaling (Guo et al. 2017, arXiv 1706.04599) divides the logits by one number, fitted on
validation by maximum likelihood. It changes neither predicted classes nor rankings. The
expected calibration error (ECE) follows Naeini et al. 2015, with bins of equal width.
"""

from typing import Any

import numpy as np
from scipy import optimize, special

from ssljax.evals.classification import HARMFUL, ONE_CLASS, score_of, softmax

BINS = 15
LOWEST, HIGHEST = 0.05, 20.0  # a few hundred texts can't support more extreme values


def fit_temperature(logits: np.ndarray, label: np.ndarray) -> tuple[float, str | None]:
  """Finds the temperature with the lowest mean negative log likelihood.

  Args:
    logits: f32 [n, C].
    label: i64 [n].

  Returns:
    (temperature, None), or (1.0, the reason why none could be fitted).
  """
  if len(np.unique(label)) < 2:
    return 1.0, ONE_CLASS
  exact = logits.astype(np.float64)
  rows = np.arange(len(label))

  def loss(log_temperature: float) -> float:
    scaled = exact / np.exp(log_temperature)
    return float((special.logsumexp(scaled, axis=1) - scaled[rows, label]).mean())

  # The loss is convex in 1 / temperature, so it has one minimum in log temperature.
  bounds = (np.log(LOWEST), np.log(HIGHEST))
  best = optimize.minimize_scalar(loss, bounds=bounds, method="bounded")
  temperature = float(np.exp(best.x))
  for bound in (LOWEST, HIGHEST):
    if np.isclose(temperature, bound, rtol=1e-3):
      return 1.0, (
        "the temperature could not be fitted: validation has almost no errors or "
        f"almost only errors, so the best value would lie beyond {bound}; scores are "
        "not calibrated"
      )
  return temperature, None


def outcomes(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
  """The outcomes that calibrated scores predict, bool [n].

  With two classes: whether the text is harmful. With more: whether the prediction is
  correct.
  """
  return label == (HARMFUL if probability.shape[1] == 2 else probability.argmax(1))


def calibration_errors(
  logits: np.ndarray, label: np.ndarray, temperature: float
) -> dict[str, float]:
  """Expected calibration error, Brier score and log loss at a temperature.

  The Brier score (Brier 1950) is defined as in scikit-learn. With two classes, it is
  the mean squared error of the probability of harm. With more, the squared errors of a
  text are summed over the classes.

  Returns:
    `ece`, `brier` and `nll`.
  """
  probability = softmax(logits, temperature)
  score = score_of(probability)
  gap = np.bincount(bin_index(score), score - outcomes(probability, label), BINS)
  return {
    "ece": float(np.abs(gap).sum() / len(label)),
    "brier": float(squared_errors(probability, label).mean()),
    "nll": float(-np.log(probability[np.arange(len(label)), label] + 1e-300).mean()),
  }


def squared_errors(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
  """The contribution of each text to the Brier score, f64 [n]."""
  if probability.shape[1] == 2:
    return (probability[:, HARMFUL] - (label == HARMFUL)) ** 2
  return ((probability - np.eye(probability.shape[1])[label]) ** 2).sum(1)


def bin_index(score: np.ndarray) -> np.ndarray:
  """The bin of each score, i64 [n] in [0, BINS)."""
  return np.clip(np.ceil(score * BINS).astype(np.int64) - 1, 0, BINS - 1)


def reliability_bins(
  logits: np.ndarray, label: np.ndarray, temperature: float
) -> list[dict[str, Any]]:
  """Computes the bins of a reliability diagram.

  Returns:
    For each bin: `low`, `high`, `count`, the mean `score`, and the `share` of positive
    outcomes. A bin contains the texts with a score in (low, high]; the first bin also
    contains texts with score 0. In an empty bin, `score` and `share` are None.
  """
  probability = softmax(logits, temperature)
  score = score_of(probability)
  index = bin_index(score)
  sums = (np.bincount(index, v, BINS) for v in (score, outcomes(probability, label)))
  return [
    {
      "low": b / BINS,
      "high": (b + 1) / BINS,
      "count": int(count),
      "score": float(scores / count) if count else None,
      "share": float(positives / count) if count else None,
    }
    for b, (count, scores, positives) in enumerate(
      zip(np.bincount(index, minlength=BINS), *sums, strict=True)
    )
  ]

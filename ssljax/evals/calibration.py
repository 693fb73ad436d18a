"""Fits the temperature and computes calibration errors.

If scores are calibrated, 8 of 10 texts with a score of 0.8 are harmful. Temperature
scaling (Guo et al. 2017, arXiv 1706.04599) divides the logits by one number. It changes
neither predicted classes nor rankings. The expected calibration error (ECE) follows
Naeini et al. 2015, with bins of equal width.
"""

from typing import Any

import numpy as np
from scipy import optimize, special

from ssljax.evals.classification import HARMFUL, ONE_CLASS, score_of, softmax

BINS = 15
LOWEST, HIGHEST = 0.05, 20.0  # a few hundred texts can't support more extreme values
LEAST, RELIABLE = 20, 100  # texts to fit a temperature, and without a warning
FOLDS = 5
SPREAD = 0.3  # of the logarithm of temperatures: half of them are in 0.82 to 1.22


def fit_temperature(logits: np.ndarray, label: np.ndarray) -> tuple[float, str | None]:
  """Fits the temperature, where that helps on texts that it wasn't fitted to.

  The fit minimises the mean negative log likelihood and is shrunk towards 1. It's used
  only if a cross-validation shows a lower log loss than without it, by more than two
  standard errors.

  Args:
    logits: f32 [n, C].
    label: i64 [n].

  Returns:
    (temperature, None), or (1.0, the reason why none is used), or (temperature, why it
    is uncertain).
  """
  if len(np.unique(label)) < 2:
    return 1.0, ONE_CLASS
  if len(label) < LEAST:
    return 1.0, f"only {len(label)} texts: at least {LEAST} are needed to calibrate"
  exact = logits.astype(np.float64)
  gain = np.zeros(len(label))  # of each text, without its fold
  fold = _folds(label)
  for k in range(FOLDS):
    own = fold == k
    fitted = _fit(exact[~own], label[~own])
    gain[own] = _losses(exact[own], label[own], 1.0)
    gain[own] -= _losses(exact[own], label[own], fitted)
  if gain.mean() <= 2 * gain.std(ddof=1) / np.sqrt(len(gain)):
    return 1.0, None
  warning = None
  if len(label) < RELIABLE:
    warning = f"fitted on only {len(label)} texts, fewer than {RELIABLE}"
  return _fit(exact, label), warning


def _folds(label: np.ndarray) -> np.ndarray:
  """i64 [n], the fold of each text; each fold has its share of each class."""
  order = np.random.default_rng(0).permutation(len(label))
  fold = np.zeros(len(label), np.int64)
  fold[order[np.argsort(label[order], kind="stable")]] = np.arange(len(label)) % FOLDS
  return fold


def _losses(logits: np.ndarray, label: np.ndarray, temperature: float) -> np.ndarray:
  """The negative log likelihood of each text, f64 [n]."""
  scaled = logits / temperature
  rows = np.arange(len(label))
  return special.logsumexp(scaled, axis=1) - scaled[rows, label]


def _fit(logits: np.ndarray, label: np.ndarray) -> float:
  """The most probable temperature, if its logarithm is normal, around 0."""

  def loss(log_temperature: float) -> float:
    likelihood = _losses(logits, label, np.exp(log_temperature)).sum()
    return float(likelihood + (log_temperature / SPREAD) ** 2 / 2)

  bounds = (np.log(LOWEST), np.log(HIGHEST))
  found = optimize.minimize_scalar(loss, bounds=bounds, method="bounded")
  return float(np.exp(found.x))


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

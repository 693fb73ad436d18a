"""Temperature, calibration errors and reliability bins."""

import numpy as np
import pytest
from sklearn import metrics

from ssljax.evals import calibration
from ssljax.evals.calibration import calibration_errors, fit_temperature
from ssljax.evals.classification import ONE_CLASS, softmax


def random_logits(seed: int, n: int, classes: int, temperature: float):
  """Logits, and labels drawn from softmax(logits / temperature)."""
  random = np.random.default_rng(seed)
  logits = (random.normal(size=(n, classes)) * 3).astype(np.float32)
  probability = softmax(logits, temperature)
  label = (random.random((n, 1)) > probability.cumsum(1)).sum(1)
  return logits, np.minimum(label, classes - 1)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_fit_recovers_the_temperature_of_the_labels(classes, temperature):
  logits, label = random_logits(0, 40_000, classes, temperature)
  fitted, reason = fit_temperature(logits, label)
  assert reason is None
  assert fitted == pytest.approx(temperature, rel=0.03)
  before = calibration_errors(logits, label, 1.0)
  after = calibration_errors(logits, label, fitted)
  assert after["ece"] < 0.01
  assert after["nll"] <= before["nll"]
  nearby = [calibration_errors(logits, label, fitted * f)["nll"] for f in (0.99, 1.01)]
  assert after["nll"] < min(nearby)


@pytest.mark.parametrize(
  ("label", "expected"),
  [([1, 1, 1], ONE_CLASS), ([1, 1, 0], "beyond 0.05"), ([0, 0, 1], "beyond 20.0")],
)
def test_one_class_and_perfect_or_reversed_predictions_have_no_temperature(
  label, expected
):
  logits = np.array([[0, 1], [0, 2], [2, 0]], np.float32)
  temperature, reason = fit_temperature(logits, np.array(label))
  assert temperature == 1.0
  assert expected in reason


@pytest.mark.parametrize("classes", [2, 3])
def test_errors_equal_loops_and_scikit_learn(classes):
  logits, label = random_logits(1, 200, classes, 2.0)
  probability = softmax(logits, 1.5)
  errors = calibration_errors(logits, label, 1.5)
  if classes == 2:
    score, outcome = probability[:, 1], label == 1
    brier = metrics.brier_score_loss(label, score)
  else:
    score, outcome = probability.max(1), probability.argmax(1) == label
    brier = ((probability - np.eye(classes)[label]) ** 2).sum(1).mean()
  ece = 0.0
  for b in range(calibration.BINS):
    low, high = b / calibration.BINS, (b + 1) / calibration.BINS
    inside = (score > low) & (score <= high)
    if inside.any():
      ece += inside.mean() * abs(score[inside].mean() - outcome[inside].mean())
  assert errors["ece"] == pytest.approx(ece, abs=1e-12)
  assert errors["brier"] == pytest.approx(brier, abs=1e-12)
  assert errors["nll"] == pytest.approx(metrics.log_loss(label, probability))


def test_reliability_bins_contain_every_text():
  logits = np.log(np.array([[1, 1e-30], [1e-30, 1], [2, 1], [1, 1]])).astype(np.float32)
  bins = calibration.reliability_bins(logits, np.array([0, 1, 1, 0]), 1.0)
  counts = [b["count"] for b in bins]
  assert sum(counts) == 4
  assert (counts[0], bins[0]["share"]) == (1, 0.0)
  assert (counts[-1], bins[-1]["share"]) == (1, 1.0)
  assert counts[4] == 1  # 1/3 is the upper end of this bin
  assert bins[4]["score"] == pytest.approx(1 / 3)
  assert list(bins[1].values()) == [1 / 15, 2 / 15, 0, None, None]


def test_a_score_on_an_edge_is_in_the_lower_bin():
  score = np.array([0, 0.01, 1, 5, 14.99, 15]) / 15
  assert calibration.bin_index(score).tolist() == [0, 0, 0, 4, 14, 14]

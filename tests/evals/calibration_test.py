"""Temperature, calibration errors and reliability bins."""

import numpy as np
import pytest
from sklearn import metrics

from ssljax.evals import calibration
from ssljax.evals.classification import softmax


def drawn(seed: int, n: int, classes: int, temperature: float):
  """Logits whose labels are drawn from softmax(logits / temperature)."""
  random = np.random.default_rng(seed)
  logits = (random.normal(size=(n, classes)) * 3).astype(np.float32)
  probability = softmax(logits, temperature)
  label = (random.random((n, 1)) > probability.cumsum(1)).sum(1)
  return logits, np.minimum(label, classes - 1)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(classes, temperature):
  logits, label = drawn(0, 40_000, classes, temperature)
  found, why = calibration.temperature(logits, label)
  assert why is None
  assert found == pytest.approx(temperature, rel=0.03)
  before = calibration.errors(logits, label, 1.0)
  after = calibration.errors(logits, label, found)
  assert after["ece"] < 0.01
  assert after["nll"] <= before["nll"]
  nearby = [calibration.errors(logits, label, found * f)["nll"] for f in (0.99, 1.01)]
  assert after["nll"] < min(nearby)


def test_no_temperature_of_one_class_and_none_where_all_are_right():
  logits = np.array([[0, 1], [0, 2], [2, 0]], np.float32)
  found, why = calibration.temperature(logits, np.array([1, 1, 1]))
  assert (found, why) == (1.0, "the labels are all of one class")
  found, why = calibration.temperature(logits, np.array([1, 1, 0]))
  assert found == 1.0
  assert "beyond 0.05" in why
  found, why = calibration.temperature(logits, np.array([0, 0, 1]))
  assert found == 1.0
  assert "beyond 20.0" in why


@pytest.mark.parametrize("classes", [2, 3])
def test_errors_equal_loops_and_scikit_learn(classes):
  logits, label = drawn(1, 200, classes, 2.0)
  probability = softmax(logits, 1.5)
  found = calibration.errors(logits, label, 1.5)
  if classes == 2:
    score, hit = probability[:, 1], label == 1
    brier = metrics.brier_score_loss(label, score)
  else:
    score, hit = probability.max(1), probability.argmax(1) == label
    brier = ((probability - np.eye(classes)[label]) ** 2).sum(1).mean()
  ece = 0.0
  for b in range(calibration.BINS):
    low, high = b / calibration.BINS, (b + 1) / calibration.BINS
    inside = (score > low) & (score <= high)
    if inside.any():
      ece += inside.mean() * abs(score[inside].mean() - hit[inside].mean())
  assert found["ece"] == pytest.approx(ece, abs=1e-12)
  assert found["brier"] == pytest.approx(brier, abs=1e-12)
  assert found["nll"] == pytest.approx(metrics.log_loss(label, probability))


def test_bins_hold_every_text_with_their_ends():
  logits = np.log(np.array([[1, 1e-30], [1e-30, 1], [2, 1], [1, 1]])).astype(np.float32)
  bins = calibration.reliability(logits, np.array([0, 1, 1, 0]), 1.0)
  assert sum(one.count for one in bins) == 4
  assert (bins[0].count, bins[0].share) == (1, 0.0)
  assert (bins[-1].count, bins[-1].share) == (1, 1.0)
  assert bins[4].count == 1  # a third, which is the end of a bin
  assert bins[4].score == pytest.approx(1 / 3)
  assert bins[1] == calibration.Bin(1 / 15, 2 / 15, 0, None, None)


def test_a_score_on_an_edge_is_in_the_bin_below():
  score = np.array([0, 0.01, 1, 5, 14.99, 15]) / 15
  assert calibration.bin_of(score).tolist() == [0, 0, 0, 4, 14, 14]

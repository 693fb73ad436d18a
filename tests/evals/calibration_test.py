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
@pytest.mark.parametrize("temperature", [0.5, 3.0])
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


def test_calibrated_logits_stay_as_they_are():
  assert fit_temperature(*random_logits(0, 40_000, 2, 1.0)) == (1.0, None)


@pytest.mark.parametrize("n", [50, 200, 1000])
@pytest.mark.parametrize("temperature", [0.5, 0.8, 1.0, 1.5, 3.0])
def test_calibration_hardly_ever_raises_the_expected_log_loss(n, temperature):
  everything, _ = random_logits(9, 5000, 2, 1.0)
  true = softmax(everything, temperature)

  def expected_loss(fitted):
    return -(true * np.log(softmax(everything, fitted))).sum(1).mean()

  sets = [random_logits(seed, n, 2, temperature) for seed in range(60)]
  fitted = [fit_temperature(*one)[0] for one in sets]
  change = np.array([expected_loss(t) for t in fitted]) - expected_loss(1.0)
  assert change.mean() < 0.001
  assert (change > 0.01).mean() < 0.05
  if temperature == 3.0:
    assert change.mean() < -0.1  # it helps


def test_few_texts_and_one_class_have_no_temperature():
  logits, label = random_logits(0, 300, 2, 3.0)
  assert fit_temperature(logits, label * 0) == (1.0, ONE_CLASS)
  temperature, reason = fit_temperature(logits[:19], label[:19])
  assert (temperature, reason) == (
    1.0,
    "only 19 texts: at least 20 are needed to calibrate",
  )
  temperature, reason = fit_temperature(logits[:90], label[:90])
  assert temperature > 1.5
  assert reason == "fitted on only 90 texts, fewer than 100"


@pytest.mark.parametrize("wrong", [False, True])
def test_texts_without_an_error_or_with_errors_only_do_not_make_scores_extreme(wrong):
  label = np.arange(40) % 2
  logits = np.eye(2, dtype=np.float32)[label ^ wrong] * 3
  temperature, _ = fit_temperature(logits, label)
  assert 0.3 < temperature < 10  # without shrinking, 0.05 or 20


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

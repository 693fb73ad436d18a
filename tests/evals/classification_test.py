"""Classification metrics, compared with plain loops over texts and pairs."""

import json

import numpy as np
import pytest

from ssljax.evals.classification import (
  METRICS,
  NOT_FLAGGED,
  classification_metrics,
  per_class_metrics,
  ranking_warning,
  resampled_metrics,
  softmax,
  undefined_reasons,
)


def random_logits(seed: int, classes: int, rows: int = 60):
  """Logits from a small pool, so that scores tie, and labels correlated with them."""
  random = np.random.default_rng(seed)
  pool = np.round(random.normal(size=(12, classes)) * 8) / 4  # classes tie as well
  logits = pool[random.integers(len(pool), size=rows)].astype(np.float32)
  noisy = logits + random.normal(size=logits.shape) * 1.5
  return logits, noisy.argmax(-1)


def count_matches(predicted, label, c: int) -> tuple[float, float, float]:
  """Precision, recall and F1 of class c; 0 where undefined."""
  tp = fp = fn = 0
  for guess, truth in zip(predicted, label, strict=True):
    tp += guess == c and truth == c
    fp += guess == c and truth != c
    fn += guess != c and truth == c
  divide = lambda a, b: a / b if b else 0.0
  return divide(tp, tp + fp), divide(tp, tp + fn), divide(2 * tp, 2 * tp + fp + fn)


def auroc_by_pairs(score, positive) -> float:
  """The share of (positive, negative) pairs in the right order; a tie counts half."""
  pairs = [(a > b) + (a == b) / 2 for a in score[positive] for b in score[~positive]]
  return sum(pairs) / len(pairs)


def average_precision_by_steps(score, positive) -> float:
  """Sum over thresholds of (gain in recall) * precision, without interpolation."""
  total = previous = 0.0
  for threshold in sorted(set(score), reverse=True):
    above = score >= threshold
    recall = positive[above].sum() / positive.sum()
    total += (recall - previous) * positive[above].mean()
    previous = recall
  return total


def metrics_by_loops(logits, label) -> dict[str, float]:
  """The metrics of a set in which every class occurs."""
  classes = logits.shape[1]
  predicted = [max(range(classes), key=lambda c: (row[c], -c)) for row in logits]
  exponential = np.exp(np.float64(logits))
  # Rounded, so that texts with equal differences between logits tie.
  probability = np.round(exponential / exponential.sum(1, keepdims=True), 12)
  by_class = [
    (
      *count_matches(predicted, label, c),
      auroc_by_pairs(probability[:, c], label == c),
      average_precision_by_steps(probability[:, c], label == c),
    )
    for c in range(classes)
  ]
  average = by_class[1] if classes == 2 else np.mean(by_class, axis=0)
  precision, recall, f1, auroc, auprc = average
  accuracy = np.mean(np.array(predicted) == label)
  balanced_accuracy = np.mean([recall for _, recall, *_ in by_class])
  macro_f1 = np.mean([f1 for _, _, f1, _, _ in by_class])
  values = (accuracy, balanced_accuracy, precision, recall, f1, macro_f1, auroc, auprc)
  return dict(zip(METRICS, values, strict=True))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_metrics_equal_loops_over_texts_and_pairs(classes, seed):
  logits, label = random_logits(seed, classes)
  assert set(label) == set(range(classes))
  values = classification_metrics(logits, label)
  assert tuple(values) == METRICS
  assert {type(value) for value in values.values()} == {float}
  assert values == pytest.approx(metrics_by_loops(logits, label), abs=1e-12)


def test_the_second_class_is_the_harmful_one():
  # One of two harmful texts is caught, and no harmless text is flagged.
  logits = np.array([[2, 0], [1, 0], [3, 0], [0, 1]], np.float32)
  values = classification_metrics(logits, np.array([0, 0, 1, 1]))
  assert (values["precision"], values["recall"]) == (1.0, 0.5)
  assert values["f1"] == pytest.approx(2 / 3)
  assert values["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
  assert values["auroc"] == 0.5  # one harmful text is below both others, one above


@pytest.mark.parametrize(
  ("classes", "only", "undefined"),
  [
    (2, 0, {*METRICS} - {"accuracy"}),  # there is no harm to catch
    (2, 1, {"balanced_accuracy", "macro_f1", "auroc", "auprc"}),
    (3, 2, {*METRICS} - {"accuracy"}),
  ],
)
def test_metrics_undefined_for_one_class_are_none_with_a_reason(
  classes, only, undefined
):
  logits, label = random_logits(0, classes)
  keep = label == only
  logits, label = logits[keep], label[keep]
  values = classification_metrics(logits, label)
  assert {name for name, value in values.items() if value is None} == undefined
  assert {*undefined_reasons(logits, label)} == undefined
  resampled = resampled_metrics(logits, label, [np.ones((1, len(label)))])
  resampled = {name: value[0] for name, value in resampled.items()}
  assert {name for name, value in resampled.items() if np.isnan(value)} == undefined
  defined = {name: value for name, value in values.items() if name not in undefined}
  assert {name: resampled[name] for name in defined} == pytest.approx(defined)
  json.dumps(values, allow_nan=False)


def test_without_flagged_texts_precision_is_undefined_and_recall_zero():
  logits, label = np.array([[1, 0]] * 3, np.float32), np.array([0, 1, 1])
  values = classification_metrics(logits, label)
  assert (values["precision"], values["recall"], values["f1"]) == (None, 0, 0)
  assert undefined_reasons(logits, label) == {"precision": NOT_FLAGGED}
  assert values["auroc"] == 0.5
  assert [c["precision"] for c in per_class_metrics(logits, label)] == [1 / 3, None]


def test_means_are_over_the_classes_that_occur():
  logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2]]
  label = np.array([0, 0, 1, 1, 1])  # the third class is absent, but predicted once
  values = classification_metrics(logits, label)
  assert values["recall"] == pytest.approx((1 + 2 / 3) / 2)
  assert values["balanced_accuracy"] == values["recall"]
  assert values["precision"] == 1
  assert values["f1"] == values["macro_f1"] == pytest.approx((1 + 4 / 5) / 2)
  assert values["auroc"] == pytest.approx((1 + 5 / 6) / 2)
  resampled = resampled_metrics(logits, label, [np.ones((1, 5))])
  assert {name: value[0] for name, value in resampled.items()} == pytest.approx(values)
  absent = per_class_metrics(logits, label)[2]
  assert absent == {"precision": None, "recall": None, "f1": None, "support": 0}


def test_softmax_of_large_logits_is_finite_and_distinguishes_confident_texts():
  logits = np.array([[0, 20], [0, 30], [1e4, -1e4], [-1e4, 1e4]], np.float32)
  probability = softmax(logits)
  assert probability.dtype == np.float64
  np.testing.assert_allclose(probability.sum(-1), 1)
  assert probability[0, 1] < probability[1, 1]  # in float32 both would be 1
  np.testing.assert_array_equal(probability[2:], [[1, 0], [0, 1]])


def test_an_auroc_clearly_below_one_half_is_said():
  warning = ranking_warning({"auroc": 0.2, "auroc_interval": [0.1, 0.3]}, "validation")
  assert "the AUROC on validation is 0.200, clearly below 0.5" in warning
  for interval in ([0.4, 0.6], [0.45, 0.5], None):
    values = {"auroc": 0.49, "auroc_interval": interval}
    assert ranking_warning(values, "validation") == ""

"""The loss and the pseudo-label metrics that a train step reports."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.method import (
  Assignment,
  Term,
  cross_entropy,
)
from ssljax.training import step


def test_a_term_is_scale_times_the_mean_of_weight_times_loss():
  random = np.random.default_rng(0)
  loss, weight = random.random(7, np.float32), random.random(7, np.float32)
  weight[[1, 4]] = 0  # unused texts count in the denominator
  terms = step.reduce_terms(
    {
      "weighted": Term(loss, weight, 3.0),
      "plain": Term(loss),
      "single": Term(jnp.float32(0.25), scale=jnp.float32(4.0)),
      "constant": Term(loss, 0.5),
    }
  )
  expected = {
    "weighted": 3 * sum(w * v for w, v in zip(weight, loss, strict=True)) / 7,
    "plain": sum(loss) / 7,
    "single": 1.0,
    "constant": sum(loss) / 14,
  }
  assert {value.shape for value in terms.values()} == {()}
  assert {k: float(v) for k, v in terms.items()} == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_equals_its_definition():
  logits = np.array([[2.0, 1.0, -1.0], [0.0, 0.0, 50.0]], np.float32)
  target = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], np.float32)
  exponential = np.exp(np.float64(logits))
  probability = exponential / exponential.sum(-1, keepdims=True)
  expected = -(target * np.log(probability)).sum(-1)
  np.testing.assert_allclose(cross_entropy(logits, target), expected, rtol=1e-6)


CLASSES, WIDTH = 3, 4  # the last class is virtual


def count_pseudo_labels(target, weight, hidden, classes=CLASSES) -> dict[str, float]:
  """The reported metrics by a loop over texts."""
  used, right, known = (np.zeros(classes) for _ in range(3))
  total = 0.0
  for row, w, truth in zip(target, weight, hidden, strict=True):
    guess = max(range(len(row)), key=lambda c: (row[c], -c))
    if w > 0 and guess < classes:
      used[guess] += 1
      total += float(w)
      known[guess] += truth >= 0
      right[guess] += truth == guess
  metrics = {"pseudo_label_weight": total / len(weight)}
  for c in (slice(None), *range(classes)):
    name = f".{c}" if isinstance(c, int) else ""
    metrics |= {
      f"mask_rate{name}": used[c].sum() / len(weight),
      f"pseudo_labels_right{name}": right[c].sum(),
      f"pseudo_labels_known{name}": known[c].sum(),
    }
  return metrics


def random_assignment(seed: int, rows: int = 40):
  """Soft targets, weights (some 0) and hidden labels (some unknown)."""
  random = np.random.default_rng(seed)
  target = random.dirichlet(np.full(WIDTH, 0.4), rows).astype(np.float32)
  weight = random.random(rows).astype(np.float32) * (random.random(rows) < 0.6)
  hidden = np.where(random.random(rows) < 0.5, target[:, :CLASSES].argmax(-1), 0)
  return (
    target,
    weight,
    np.where(random.random(rows) < 0.3, -1, hidden).astype(np.int32),
  )


@pytest.mark.parametrize("seed", range(4))
def test_pseudo_labels_are_counted(seed):
  target, weight, hidden = random_assignment(seed)
  used = weight > 0
  assert (target.argmax(-1) == CLASSES)[used].any()  # a virtual class is not a label
  assert (hidden[used] < 0).any()
  metrics = step.pseudo_label_metrics(Assignment(target, weight), hidden, CLASSES)
  assert all(value.dtype == jnp.float32 for value in metrics.values())
  expected = count_pseudo_labels(target, weight, hidden)
  assert 0 < expected["pseudo_labels_right"] < expected["pseudo_labels_known"]
  assert {k: float(v) for k, v in metrics.items()} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("missing", ["used", "known", "real"])
def test_metrics_without_pseudo_labels_are_zero_and_finite(missing):
  target, weight, hidden = random_assignment(0)
  match missing:
    case "used":
      weight = np.zeros_like(weight)
    case "known":
      hidden = np.full_like(hidden, -1)
    case "real":
      target = np.eye(WIDTH, dtype=np.float32)[np.full(len(weight), CLASSES)]
  metrics = step.pseudo_label_metrics(Assignment(target, weight), hidden, CLASSES)
  assert metrics["pseudo_labels_right"] == metrics["pseudo_labels_known"] == 0
  assert (metrics["mask_rate"] > 0) == (missing == "known")
  expected = count_pseudo_labels(target, weight, hidden)
  assert {k: float(v) for k, v in metrics.items()} == pytest.approx(expected, rel=1e-6)


def test_many_classes_are_not_reported_individually():
  target = np.eye(30, dtype=np.float32)
  metrics = step.pseudo_label_metrics(
    Assignment(target, np.ones(30, np.float32)), np.arange(30), 30
  )
  assert metrics["mask_rate"] == 1
  assert not any("." in name for name in metrics)


def test_nothing_is_reported_without_unlabelled_texts():
  empty = Assignment(jnp.zeros((0, CLASSES)), jnp.zeros(0))
  assert step.pseudo_label_metrics(empty, np.zeros(0, np.int32), CLASSES) == {}

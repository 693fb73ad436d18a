"""What a step makes of terms and assignments: the loss, and what is reported."""

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
  weight[[1, 4]] = 0  # texts that are not used count in the denominator
  found = step.reduce_terms(
    {
      "weighted": Term(loss, weight, 3.0),
      "plain": Term(loss),
      "single": Term(jnp.float32(0.25), scale=jnp.float32(4.0)),
      "constant": Term(loss, 0.5),
    }
  )
  wanted = {
    "weighted": 3 * sum(w * v for w, v in zip(weight, loss, strict=True)) / 7,
    "plain": sum(loss) / 7,
    "single": 1.0,
    "constant": sum(loss) / 14,
  }
  assert {name: value.shape for name, value in found.items()} == dict.fromkeys(
    wanted, ()
  )
  assert {k: float(v) for k, v in found.items()} == pytest.approx(wanted, rel=1e-6)


def test_cross_entropy_is_that_of_the_softmax():
  logits = np.array([[2.0, 1.0, -1.0], [0.0, 0.0, 50.0]], np.float32)
  target = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], np.float32)
  powers = np.exp(np.float64(logits))
  wanted = -(target * np.log(powers / powers.sum(-1, keepdims=True))).sum(-1)
  np.testing.assert_allclose(cross_entropy(logits, target), wanted, rtol=1e-6)


CLASSES, WIDTH = 3, 4  # the last class is virtual


def reported(target, weight, hidden, classes=CLASSES) -> dict[str, float]:
  """The four numbers, text by text."""
  used, right, known = (np.zeros(classes) for _ in range(3))
  total = 0.0
  for row, w, truth in zip(target, weight, hidden, strict=True):
    guess = max(range(len(row)), key=lambda c: (row[c], -c))
    if w > 0 and guess < classes:
      used[guess] += 1
      total += float(w)
      known[guess] += truth >= 0
      right[guess] += truth == guess
  found = {"pseudo_label_weight": total / len(weight)}
  for c in (slice(None), *range(classes)):
    name = f".{c}" if isinstance(c, int) else ""
    found |= {
      f"mask_rate{name}": used[c].sum() / len(weight),
      f"pseudo_labels_right{name}": right[c].sum(),
      f"pseudo_labels_known{name}": known[c].sum(),
    }
  return found


def drawn(seed: int, rows: int = 40):
  """Soft targets, weights of which some are 0, labels of which some are unknown."""
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
def test_pseudo_labels_are_counted_text_by_text(seed):
  target, weight, hidden = drawn(seed)
  used = weight > 0
  assert (target.argmax(-1) == CLASSES)[used].any()  # a virtual class is no label
  assert (hidden[used] < 0).any()
  found = step.pseudo_label_metrics(Assignment(target, weight), hidden, CLASSES)
  assert all(value.dtype == jnp.float32 for value in found.values())
  wanted = reported(target, weight, hidden)
  assert 0 < wanted["pseudo_labels_right"] < wanted["pseudo_labels_known"]
  assert {k: float(v) for k, v in found.items()} == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("nothing", ["used", "known", "real"])
def test_nothing_to_count_is_zero_and_finite(nothing):
  target, weight, hidden = drawn(0)
  match nothing:
    case "used":
      weight = np.zeros_like(weight)
    case "known":
      hidden = np.full_like(hidden, -1)
    case "real":
      target = np.eye(WIDTH, dtype=np.float32)[np.full(len(weight), CLASSES)]
  found = step.pseudo_label_metrics(Assignment(target, weight), hidden, CLASSES)
  assert found["pseudo_labels_right"] == found["pseudo_labels_known"] == 0
  assert (found["mask_rate"] > 0) == (nothing == "known")
  wanted = reported(target, weight, hidden)
  assert {k: float(v) for k, v in found.items()} == pytest.approx(wanted, rel=1e-6)


def test_many_classes_are_reported_as_one():
  target = np.eye(30, dtype=np.float32)
  found = step.pseudo_label_metrics(
    Assignment(target, np.ones(30, np.float32)), np.arange(30), 30
  )
  assert found["mask_rate"] == 1
  assert not any("." in name for name in found)


def test_without_unlabelled_texts_nothing_is_reported():
  empty = Assignment(jnp.zeros((0, CLASSES)), jnp.zeros(0))
  assert step.pseudo_label_metrics(empty, np.zeros(0, np.int32), CLASSES) == {}

"""Multihead Co-training against arXiv 2107.04795, in plain NumPy."""

import numpy as np
import pytest

from ssljax.method import Outputs, Sizes
from ssljax.methods import multihead_cotraining
from tests.golden import fake

B, U, HEADS = 5, 16, range(3)
SCALE = 0.7


def speech(random, classes, spread=2.0, disagreement=0.5):
  """Logits of three voters that mostly agree."""
  outputs = {}
  for name, n in (("labelled.weak", B), ("unlabelled.weak", U)):
    common = fake.random_logits(random, n, 1, classes, spread=spread)
    own = fake.random_logits(random, n, 3, classes, spread=spread * disagreement)
    outputs[name] = {"voters": common + own}
  outputs["unlabelled.strong"] = {"voters": fake.random_logits(random, U, 3, classes)}
  return {
    name: view | {"logits": view["voters"].mean(1)} for name, view in outputs.items()
  }


def taught(voters, head, threshold):
  """(label, weight 0 or 1) for a head, from the other two."""
  i, j = (h for h in HEADS if h != head)
  q = {h: fake.softmax(voters[h]) for h in (i, j)}
  labels = {h: fake.argmax(q[h]) for h in (i, j)}
  confident = all(max(q[h]) >= threshold for h in (i, j))
  return labels[i], float(labels[i] == labels[j] and confident)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("threshold", [0.0, 0.8])
def test_equals_the_equations(classes, threshold):
  random = np.random.default_rng(classes)
  method = multihead_cotraining.make(threshold, SCALE)
  take = fake.stepper(method)
  state = method.init(Sizes(classes, B, U, B, U))
  counts = []
  for step in range(6):
    spread, disagreement = [(2, 0.5), (0.1, 1), (8, 0), (2, 1), (0, 0), (3, 0.3)][step]
    outputs = speech(random, classes, spread, disagreement)
    voters = outputs["unlabelled.weak"]["voters"]
    voters[..., 0] -= 9 * (step == 3)  # a class nobody predicts
    voters[..., -1] += 90 * (step == 2)  # all agree, and are sure
    label = fake.random_labels(random, B, classes)
    result = take(state, outputs, label, np.arange(U), step, step / 6, step)
    state = result.state

    loss, count = 0, 0
    for b in range(U):
      lessons = [taught(voters[b], h, threshold) for h in HEADS]
      for h, (c, w) in zip(HEADS, lessons, strict=True):
        strong = outputs["unlabelled.strong"]["voters"][b][h]
        loss += w * fake.cross_entropy(strong, fake.one_hot(c, classes)) / 3
        count += w
      assert result.assigned.weight[b] == pytest.approx(sum(w for _, w in lessons) / 3)
      labels = {c for c, w in lessons if w}
      assert len(labels) <= 1  # of three heads two agree on one label at most
      if labels:
        np.testing.assert_array_equal(
          result.assigned.target[b], fake.one_hot(labels.pop(), classes)
        )
      assert np.sum(result.assigned.target[b]) == pytest.approx(1)
    counts.append(count)
    own = [
      sum(
        fake.cross_entropy(outputs["labelled.weak"]["voters"][b][h], label[b])
        for h in HEADS
      )
      for b in range(B)
    ]
    assert result.totals == pytest.approx(
      {"labelled": sum(own) / B, "unlabelled": SCALE * loss / U}, rel=1e-5
    )
  assert counts[2] == 3 * U
  assert counts[4] == (0 if threshold else 3 * U)  # a tie is everybody's first class
  assert 0 < counts[3] < 3 * U


def test_weights_are_0_if_all_heads_disagree():
  voters = np.array([np.eye(3) * 9])
  zero = np.zeros((1, 3, 3))
  outputs = {
    "labelled.weak": {"voters": zero},
    "unlabelled.weak": {"voters": voters},
    "unlabelled.strong": {"voters": zero},
  }
  outputs = {k: v | {"logits": v["voters"].mean(1)} for k, v in outputs.items()}
  result = fake.stepper(multihead_cotraining.make())((), outputs, np.eye(3)[:1], [0])
  assert result.totals["unlabelled"] == 0
  np.testing.assert_array_equal(result.assigned.weight, [0])


@pytest.mark.slow
def test_two_heads_that_agree_teach_only_the_third():
  random = np.random.default_rng(0)
  outputs = speech(random, 3)
  outputs["unlabelled.weak"]["voters"] = np.tile(np.eye(3)[[1, 2, 1]] * 4, (U, 1, 1))
  take = fake.stepper(multihead_cotraining.make(scale=SCALE))
  label = fake.random_labels(random, B, 3)
  gradient = take((), outputs, label, np.arange(U)).gradient
  for b in range(U):
    for h in HEADS:
      p = np.array(fake.softmax(outputs["unlabelled.strong"]["voters"][b][h]))
      pull = (p - np.eye(3)[1]) * SCALE / (3 * U) * (h == 1)
      found = gradient["unlabelled.strong"]["voters"][b][h]
      np.testing.assert_allclose(found, pull, atol=1e-6)
  for b in range(B):
    for h in HEADS:
      p = np.array(fake.softmax(outputs["labelled.weak"]["voters"][b][h]))
      found = gradient["labelled.weak"]["voters"][b][h]
      np.testing.assert_allclose(found, (p - label[b]) / B, atol=1e-6)
  assert not np.any(gradient["unlabelled.weak"]["voters"])


def test_predictions_average_the_voters():
  voters = np.random.default_rng(0).normal(size=(4, 3, 2))
  predicted = multihead_cotraining.make().predict(
    Outputs(None, None, {"voters": voters})
  )
  np.testing.assert_allclose(
    predicted, (voters[:, 0] + voters[:, 1] + voters[:, 2]) / 3
  )

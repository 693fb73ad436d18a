"""FlexMatch against the equations of arXiv 2110.08263, over a dictionary of rows."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import flexmatch
from tests.golden import fake, plain

N, U, B = 24, 12, 6


def step(learned, weak, index):
  """(label, passes) for each text; then records the texts."""
  cuts, found = [learned.level(c) for c in range(learned.classes)], []
  for row in weak:
    q = fake.softmax(row)
    c = fake.argmax(q)
    assert abs(q[c] - cuts[c]) > 1e-6  # no matter of rounding
    found.append((c, q[c] > cuts[c]))
  for row, u in zip(weak, index, strict=True):
    learned.remember(int(u), fake.softmax(row))
  return found


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
  ("warmup", "ends"), [(True, 1.0), (False, 1.0), (True, 0.5), (True, 0.0)]
)
def test_equals_the_equations(classes, warmup, ends):
  random = np.random.default_rng(classes)
  method = flexmatch.make(threshold=0.8, scale=0.7, warmup=warmup, warmup_ends=ends)
  take = fake.stepper(method)
  state = method.init(Sizes(classes, 12, N, B, U))
  learned = plain.Learned(classes, N, 0.8, warmup)
  selected = []
  for t in range(9):
    outputs = fake.random_outputs(random, classes, B, U, spread=3.0)
    weak = outputs["unlabelled.weak"]["logits"]
    weak[:, -1] -= 30 * (t < 3)  # a class nobody predicts
    if t == 7:  # all are for the class that is learned best, and none is sure
      counts = learned.counts()
      weak[:] = 0.25 * np.eye(classes)[counts.index(max(counts))]
    label = fake.random_labels(random, B, classes)
    index = random.permutation(N)[:U]
    result = take(state, outputs, label, index, t, t / 10)
    state = result.state

    learned.warmup = warmup and t / 10 < ends
    taught = step(learned, weak, index)
    selected.append(sum(passes for _, passes in taught))
    taught = [(fake.one_hot(c, classes), passes) for c, passes in taught]
    plain.check_consistency(result, outputs, label, taught)
    np.testing.assert_array_equal(state.label, learned.labels())
    np.testing.assert_array_equal(state.count, learned.counts())
  # All before anything is learned, none in the step made for it.
  assert selected[0] == U
  assert selected[7] == 0
  assert any(0 < count < U for count in selected)


def two_texts(*confidences):
  """Logits of two classes with these probabilities of the first."""
  weak = np.array([[np.log(q / (1 - q)), 0.0] for q in confidences])
  outputs = {"labelled.weak": {"logits": np.zeros((1, 2))}}
  return outputs | {f"unlabelled.{v}": {"logits": weak} for v in ("weak", "strong")}


def test_thresholds_are_from_before_the_batch():
  method = flexmatch.make()
  take = fake.stepper(method)
  state = method.init(Sizes(2, 1, 2, 1, 2))
  # Nothing is learned yet, so T = 0. After the sure text it would be 0.95.
  first = take(state, two_texts(0.99, 0.6), np.eye(2)[:1], [0, 1])
  np.testing.assert_array_equal(first.assigned.weight, [1, 1])
  second = take(first.state, two_texts(0.99, 0.6), np.eye(2)[:1], [0, 1])
  np.testing.assert_array_equal(second.assigned.weight, [1, 0])


def test_unused_rows_keep_thresholds_low():
  # 1 of 11 rows learned: beta = 1/10 with the 10 others, 1 without them.
  for warmup, expected in [(True, [1, 1]), (False, [1, 0])]:
    method = flexmatch.make(warmup=warmup)
    take = fake.stepper(method)
    state = method.init(Sizes(2, 1, 11, 1, 2))
    state = take(state, two_texts(0.99, 0.6), np.eye(2)[:1], [0, 1]).state
    result = take(state, two_texts(0.99, 0.6), np.eye(2)[:1], [0, 1])
    np.testing.assert_array_equal(result.assigned.weight, expected)


@pytest.mark.parametrize(("progress", "expected"), [(0.249, [1, 1]), (0.25, [1, 0])])
def test_the_warmup_ends_after_its_share_of_the_run(progress, expected):
  method = flexmatch.make(warmup_ends=0.25)
  take = fake.stepper(method)
  state = method.init(Sizes(2, 1, 11, 1, 2))
  state = take(state, two_texts(0.99, 0.6), np.eye(2)[:1], [0, 1]).state
  result = take(state, two_texts(0.99, 0.6), np.eye(2)[:1], [0, 1], 1, progress)
  np.testing.assert_array_equal(result.assigned.weight, expected)

"""SAW over methods against Lai et al. 2022, in plain Python."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.method import Assignment, Needs, Rule, consistency
from ssljax.methods import adamatch, freematch, refixmatch
from ssljax.wrappers import saw
from tests.golden import fake, wrapped

BETA, EPOCH = 0.9, 2
COUNTS = {2: (13, 3), 5: (20, 9, 9, 1, 2)}


def fixed(method, beta=BETA):
  """SAW with a fixed beta, as in version 0.1.0."""
  return saw.make(method, beta, by_count=False, start=1.0)


def weights(counts, beta=BETA):
  """(1 - beta) / (1 - beta^n), of mean 1; a count of 0 is taken as 1.

  Without beta, it is (N - 1) / N, where N is the mean count.
  """
  mean = max(sum(counts) / len(counts), 1)
  beta = (mean - 1) / mean if beta is None else beta
  raw = [(1 - beta) / (1 - beta ** max(count, 1)) for count in counts]
  return [len(raw) * one / sum(raw) for one in raw]


class Reference:
  """Keeps the last prediction of each row, and the weights of the classes."""

  def __init__(self, counts, beta):
    self.classes, self.beta = len(counts), beta
    self.labelled, self.unlabelled = weights(counts, beta), [1.0] * self.classes
    self.vote = {}

  def see(self, step, weak, index):
    for row, u in zip(weak, index, strict=True):
      self.vote[int(u)] = fake.argmax(row)
    if (step + 1) % EPOCH == 0:
      votes = list(self.vote.values())
      counts = [votes.count(c) for c in range(self.classes)]
      self.unlabelled = weights(counts, self.beta)


@pytest.mark.parametrize("inner", wrapped.INNER)
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("beta", [pytest.param(BETA, marks=pytest.mark.slow), None])
def test_equals_the_equations(inner, classes, beta):
  random = np.random.default_rng(classes)
  method = wrapped.method(inner)
  method = fixed(method, beta) if beta else saw.make(method, start=1.0)
  take = fake.stepper(method)
  state = method.init(wrapped.sizes(classes, COUNTS[classes], epoch_steps=EPOCH))
  reference, rule = Reference(COUNTS[classes], beta), wrapped.reference(inner, classes)
  for step, (outputs, label, index) in enumerate(wrapped.scenes(random, classes)):
    result = take(state, outputs, label, index, step, epoch=step // EPOCH)
    state, weak = result.state, outputs["unlabelled.weak"]["logits"]
    taught = rule.step(weak)
    if step in (2, 3) and inner == "fixmatch":
      assert {weight for _, weight in taught} == {step - 2.0}
    own = [reference.labelled[fake.argmax(y)] for y in label]
    more = [reference.unlabelled[c] for c, _ in taught]
    wrapped.Expected(taught, wrapped.trained_logits(outputs), label, own, more).check(
      result
    )
    reference.see(step, weak, index)
    np.testing.assert_allclose(state.labelled, reference.labelled, rtol=1e-5)
    np.testing.assert_allclose(state.unlabelled, reference.unlabelled, rtol=1e-5)
    votes = [reference.vote.get(u, -1) for u in range(wrapped.ROWS)]
    np.testing.assert_array_equal(state.vote, votes)


def test_every_loss_per_text_is_weighted():
  """No text is confident, so the only unlabelled loss is ReFixMatch's divergence."""
  counts, (outputs, label, index) = (
    (13, 3),
    next(wrapped.scenes(np.random.default_rng(0), 2)),
  )
  outputs["unlabelled.weak"]["logits"][:] = [0.5, 0.0]
  inner = refixmatch.make(threshold=0.95)
  wrapped_method = fixed(inner)
  state = wrapped_method.init(wrapped.sizes(2, counts))
  state = state._replace(unlabelled=np.array([0.25, 1.75], np.float32))
  found = fake.stepper(wrapped_method)(state, outputs, label, index)
  plain = fake.stepper(inner)((), outputs, label, index)
  assert plain.totals["divergence"] > 0
  assert found.totals["divergence"] == pytest.approx(
    0.25 * plain.totals["divergence"], rel=1e-5
  )


def test_a_loss_per_batch_is_not_weighted():
  """FreeMatch's fairness is one number, and stays the same."""
  outputs, label, index = next(wrapped.scenes(np.random.default_rng(0), 2))
  inner = freematch.make(fairness=0.5)
  wrapped_method = fixed(inner)
  sizes = wrapped.sizes(2, (13, 3))
  state = wrapped_method.init(sizes)._replace(
    unlabelled=np.array([0.25, 1.75], np.float32)
  )
  found = fake.stepper(wrapped_method)(state, outputs, label, index)
  plain = fake.stepper(inner)(inner.init(sizes), outputs, label, index)
  assert plain.totals["fairness"] != 0
  assert found.totals["fairness"] == plain.totals["fairness"]
  assert found.totals["unlabelled"] != pytest.approx(plain.totals["unlabelled"])


@pytest.mark.slow
def test_a_virtual_class_has_weight_1():
  """MarginMatch assigns some texts to a class that is not counted."""
  counts, random = (13, 3), np.random.default_rng(0)
  target = jnp.eye(3)[jnp.arange(wrapped.U) % 3]

  def assign(state, evidence, clock):
    return Assignment(target, jnp.ones(wrapped.U)), state

  inner = consistency(Rule(lambda sizes: (), assign), 1.0, Needs(virtual_classes=1))
  wrapped_method = fixed(inner)
  state = wrapped_method.init(wrapped.sizes(2, counts))
  state = state._replace(unlabelled=np.array([0.25, 1.75], np.float32))
  outputs, label = (
    fake.random_outputs(random, 3, wrapped.B, wrapped.U),
    np.eye(3)[[0, 1] * 3],
  )
  found = fake.stepper(wrapped_method)(state, outputs, label, np.arange(wrapped.U))
  strong = outputs["unlabelled.strong"]["logits"]
  losses = [fake.cross_entropy(z, t) for z, t in zip(strong, target, strict=True)]
  expected = np.mean(np.array([0.25, 1.75, 1.0] * 8) * losses)
  assert found.totals["unlabelled"] == pytest.approx(expected, rel=1e-5)


def test_predictions_are_counted_not_pseudo_labels():
  """AdaMatch's labels are aligned, so they may differ from the prediction."""
  outputs, label, index = next(wrapped.scenes(np.random.default_rng(0), 2))
  outputs["unlabelled.weak"]["logits"][:] = [2.0, 0.0]
  outputs["unlabelled.weak"]["logits"][0] = [0.1, 0.0]
  outputs["labelled.weak"]["logits"][:] = [0.0, 0.0]
  method = fixed(adamatch.make(interpolation=False))
  state = method.init(wrapped.sizes(2, (13, 3)))
  result = fake.stepper(method)(state, outputs, label, index)
  assert result.assigned.target[0, 1] == 1
  assert result.state.vote[index[0]] == 0


def first(beta, counts):
  method = fixed(wrapped.method("fixmatch"), beta)
  return method.init(wrapped.sizes(len(counts), counts)).labelled


def test_weights_range_from_equal_to_inverse_counts():
  counts = (50, 10, 1)
  np.testing.assert_array_equal(first(0.0, counts), [1, 1, 1])
  inverse = np.array([1 / 50, 1 / 10, 1])
  np.testing.assert_allclose(
    first(0.999999, counts), 3 * inverse / inverse.sum(), rtol=1e-2
  )
  np.testing.assert_allclose(first(1.0, counts), 3 * inverse / inverse.sum(), rtol=1e-4)
  np.testing.assert_allclose(first(0.999, counts), weights(counts, 0.999), rtol=1e-4)


def test_a_class_without_texts_counts_as_having_one():
  found = first(0.9, (5, 0, 1))
  assert found[1] == found[2] > found[0]


@pytest.mark.parametrize("inner", wrapped.INNER)
def test_with_strength_0_the_method_is_unchanged(inner):
  method = wrapped.method(inner)
  wrapped.assert_same(fixed(method, beta=0.0), method, (7, 2, 1), epoch_steps=2)


def test_the_smoothing_is_the_authors():
  """Their weights of 52,000 and 8,000 texts; a fixed beta takes both for endless."""
  np.testing.assert_allclose(
    saw.weights(np.array([52e3, 8e3]), None), [0.44, 1.56], atol=5e-3
  )
  np.testing.assert_allclose(
    saw.weights(np.array([52e3, 8e3]), 0.999), [1, 1], atol=5e-4
  )


@pytest.mark.parametrize(
  "counts", [(7, 7, 7), (1, 1), (0, 0), (0, 1), (90_000, 90_000)]
)
def test_equal_classes_have_equal_weights_and_empty_ones_are_finite(counts):
  found = np.asarray(saw.weights(np.array(counts, np.float32), None))
  np.testing.assert_allclose(found, 1.0, rtol=1e-5)


def test_a_class_without_texts_does_not_change_the_mean_count():
  """N is the authors' mean, before the empty class counts as having a text."""
  found = saw.weights(np.array([40.0, 0.0]), None)
  np.testing.assert_allclose(found, weights((40, 0), None), rtol=1e-5)
  method = saw.make(wrapped.method("fixmatch"))
  first = method.init(wrapped.sizes(2, (40, 0))).labelled
  np.testing.assert_allclose(first, found, rtol=1e-6)


@pytest.mark.parametrize(("start", "opens"), [(0.25, 1), (0.5, 3), (1.0, 3)])
def test_unlabelled_weights_start_after_a_share_of_the_run(start, opens):
  """The epoch has four steps, and the run eight."""
  method = saw.make(wrapped.method("fixmatch"), start=start)
  take = fake.stepper(method)
  state = method.init(wrapped.sizes(2, (13, 3), epoch_steps=4))
  outputs, label, index = next(wrapped.scenes(np.random.default_rng(0), 2))
  outputs["unlabelled.weak"]["logits"][:] = [2.0, 0.0]
  outputs["unlabelled.weak"]["logits"][0] = [0.0, 2.0]
  for step in range(4):
    state = take(state, outputs, label, index, step, epoch=0, steps=8).state
    assert bool(state.unlabelled[0] < 1) == (step >= opens)

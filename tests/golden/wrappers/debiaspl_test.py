"""DebiasPL over methods against arXiv 2201.01490, in plain Python."""

import numpy as np
import pytest

from ssljax.method import Outputs
from ssljax.wrappers import debiaspl
from tests.golden import fake, plain, wrapped

TAU, MOMENTUM = 0.9, 0.6


class Reference:
  """Keeps the running mean of the weak predictions, and shifts logits."""

  def __init__(self, classes):
    self.mean, self.momentum = [1 / classes] * classes, MOMENTUM

  def shift(self):
    return TAU * np.log(self.mean)

  def see(self, weak):
    """Votes are debiased; the mean is of predictions that are not."""
    now = plain.mean([fake.softmax(row) for row in weak])
    pairs = zip(self.mean, now, strict=True)
    self.mean = [self.momentum * old + (1 - self.momentum) * new for old, new in pairs]


@pytest.mark.parametrize("inner", wrapped.INNER)
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
  "time_constant", [pytest.param(0.0, marks=pytest.mark.slow), 0.02]
)
def test_equals_the_equations(inner, classes, time_constant):
  random = np.random.default_rng(classes)
  method = debiaspl.make(wrapped.method(inner), TAU, MOMENTUM, time_constant)
  take = fake.stepper(method)
  state = method.init(wrapped.sizes(classes))
  np.testing.assert_allclose(state.mean, np.full(classes, 1 / classes), rtol=1e-6)
  reference, rule = Reference(classes), wrapped.reference(inner, classes)
  for step, (outputs, label, index) in enumerate(wrapped.scenes(random, classes)):
    result = take(state, outputs, label, index, step)
    state, shift = result.state, reference.shift()
    weak = outputs["unlabelled.weak"]["logits"]
    taught = rule.step(weak - shift)
    trained = wrapped.trained_logits(outputs, strong=shift)
    wrapped.Expected(taught, trained, label).check(result)
    reference.momentum = plain.kept(MOMENTUM, time_constant, step)
    reference.see(weak)
    np.testing.assert_allclose(state.mean, reference.mean, rtol=1e-5)
    if step in (2, 3) and inner == "fixmatch" and not time_constant:
      assert {weight for _, weight in taught} == {step - 2.0}


def lopsided():
  """Nine texts of the first class, and one with a slight preference for it."""
  weak = np.array([[4.0, 0.0]] * (wrapped.U - 1) + [[0.25, 0.0]])
  views = {f"unlabelled.{v}": {"logits": weak} for v in ("weak", "strong")}
  return views | {"labelled.weak": {"logits": np.zeros((1, 2))}}


def test_the_mean_is_by_class():
  """Published code averages over all entries to one number, which has no effect."""
  method = debiaspl.make(wrapped.method("fixmatch"), 0.5, 0.0)
  take = fake.stepper(method)
  state, votes = method.init(wrapped.sizes(2)), []
  for step in range(2):
    result = take(state, lopsided(), np.eye(2)[:1], np.arange(wrapped.U), step)
    votes.append(int(result.assigned.target[-1].argmax()))
    state = result.state
  assert votes == [0, 1]
  assert state.mean.shape == (2,)
  assert state.mean[0] > 0.9 > 0.1 > state.mean[1]


def test_a_step_is_shifted_by_the_steps_before_it():
  method = debiaspl.make(wrapped.method("fixmatch"), 0.5, 0.0)
  take = fake.stepper(method)
  state = method.init(wrapped.sizes(2))
  outputs, label = lopsided(), np.eye(2)[[0] * wrapped.B]
  outputs["labelled.weak"]["logits"] = np.zeros((wrapped.B, 2))
  weak = outputs["unlabelled.weak"]["logits"]
  shift = np.zeros(2)
  for step in range(2):
    result = take(state, outputs, label, np.arange(wrapped.U), step)
    state = result.state
    taught = plain.FixMatch(0.8).step(weak - shift)
    wrapped.Expected(
      taught, wrapped.trained_logits(outputs, strong=shift), label
    ).check(result)
    shift = 0.5 * np.log(plain.mean([fake.softmax(row) for row in weak]))


@pytest.mark.slow
@pytest.mark.parametrize("inner", wrapped.INNER)
def test_with_strength_0_the_method_is_unchanged(inner):
  method = wrapped.method(inner)
  wrapped.assert_same(debiaspl.make(method, tau=0.0, momentum=0.5), method, (7, 2, 1))


def test_a_class_with_mean_0_gives_finite_logits():
  method = debiaspl.make(wrapped.method("fixmatch"), TAU, 0.0)
  take = fake.stepper(method)
  state = method.init(wrapped.sizes(3))
  outputs = fake.random_outputs(np.random.default_rng(0), 3, wrapped.B, wrapped.U)
  outputs["unlabelled.weak"]["logits"][:, 1] = -1e4
  for step in range(3):
    result = take(
      state, outputs, np.eye(3)[[0] * wrapped.B], np.arange(wrapped.U), step
    )
    state = result.state
    assert all(np.isfinite(total) for total in result.totals.values())
    assert np.all(np.isfinite(result.gradient["unlabelled.strong"]["logits"]))
    voted = np.asarray(result.assigned.target).sum(0)
    assert not voted[1]
    assert voted[0] * voted[2] > 0
    assert np.any(result.assigned.weight)


def test_predictions_are_not_shifted():
  method = wrapped.method("fixmatch")
  outputs = Outputs(np.arange(6.0).reshape(2, 3), None, {})
  found = debiaspl.make(method).predict(outputs)
  np.testing.assert_array_equal(found, outputs.logits)

"""SoftMatch against the equations of arXiv 2301.10921, in plain Python."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import softmatch
from tests.golden import fake, plain

U, B = 24, 6


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
  ("moments", "deviations", "time_constant"),
  [
    ("before", 2.0, 0.0),
    ("after", 2.0, 0.0),
    ("before", 3.0, 0.0),
    ("before", 2.0, 0.02),
  ],
)
def test_equals_the_equations(classes, moments, deviations, time_constant):
  random = np.random.default_rng(classes)
  method = softmatch.make(
    scale=0.7,
    momentum=0.6,
    time_constant=time_constant,
    deviations=deviations,
    moments=moments,
  )
  take = fake.stepper(method)
  state = method.init(Sizes(classes, 12, U, B, U))
  reference = plain.SoftMatch(classes, 0.6, moments, deviations)
  for step in range(8):
    outputs = fake.random_outputs(random, classes, B, U, spread=[3.0, 0.5][step % 2])
    weak = outputs["unlabelled.weak"]["logits"]
    weak[:, -1] -= 30 * (step in (2, 3))  # a class nobody predicts
    if step == 5:  # nobody knows anything
      weak[:] = 0
    if step == 6:  # one is sure, the others are not; then all are sure
      weak[1:] /= 10
    if step == 7:
      weak[:] = 50 * np.eye(classes)[np.arange(U) % classes]
    label = fake.random_labels(random, B, classes)
    result = take(state, outputs, label, np.arange(U), step)
    state = result.state

    reference.momentum = plain.kept(0.6, time_constant, step)
    taught = [(fake.one_hot(c, classes), weight) for c, weight in reference.step(weak)]
    plain.check_consistency(result, outputs, label, taught, weight_rtol=1e-5)
    weights = [weight for _, weight in taught]
    np.testing.assert_allclose(state.mean, reference.mu, rtol=1e-5)
    np.testing.assert_allclose(state.variance, reference.variance, rtol=1e-5)
    np.testing.assert_allclose(state.model.mean, reference.mean, rtol=1e-5, atol=1e-9)
    if step == 0:
      assert 0 < min(weights) < max(weights) == 1
  np.testing.assert_array_equal(weights, np.ones(U))  # of the last step


def skewed():
  """Nine confident texts of the first class, a less confident one of the second."""
  weak = np.array([[3.0, 0.0]] * 9 + [[0.0, 1.0]])
  outputs = {"labelled.weak": {"logits": np.zeros((1, 2))}}
  return outputs | {f"unlabelled.{v}": {"logits": weak} for v in ("weak", "strong")}


def test_moments_are_from_before_the_alignment():
  method = softmatch.make(time_constant=0.0, momentum=0.5)
  state = method.init(Sizes(2, 1, 10, 1, 10))
  result = fake.stepper(method)(state, skewed(), np.eye(2)[:1], np.arange(10))
  sure, unsure = 1 / (1 + np.exp(-3.0)), 1 / (1 + np.exp(-1.0))
  mean = (9 * sure + unsure) / 10
  variance = (9 * (sure - mean) ** 2 + (unsure - mean) ** 2) / 9
  assert result.state.mean == pytest.approx(0.5 * 0.5 + 0.5 * mean)
  assert result.state.variance == pytest.approx(0.5 + 0.5 * variance)


def test_alignment_weights_rare_classes_up_and_keeps_labels():
  method = softmatch.make(time_constant=0.0, momentum=0.5)
  state = method.init(Sizes(2, 1, 10, 1, 10))
  outputs = skewed()
  outputs["unlabelled.weak"]["logits"][8] = [0.5, 0.0]  # aligned, the other class
  result = fake.stepper(method)(state, outputs, np.eye(2)[:1], np.arange(10))
  np.testing.assert_array_equal(result.assigned.target.argmax(-1), [0] * 9 + [1])
  assert result.assigned.weight[9] == 1


def test_identical_texts_have_weight_1():
  method = softmatch.make(momentum=0.0)  # so that the variance is 0
  state = method.init(Sizes(2, 1, U, 1, U))
  outputs = {"labelled.weak": {"logits": np.zeros((1, 2))}}
  outputs |= {
    f"unlabelled.{v}": {"logits": np.zeros((U, 2))} for v in ("weak", "strong")
  }
  result = fake.stepper(method)(state, outputs, np.eye(2)[:1], np.arange(U))
  assert result.state.variance == 0
  np.testing.assert_array_equal(result.assigned.weight, np.ones(U))


def test_a_batch_of_one_text_has_variance_0():
  method = softmatch.make()
  state = method.init(Sizes(2, 1, 1, 1, 1))
  outputs = fake.random_outputs(np.random.default_rng(0), 2, 1, 1)
  result = fake.stepper(method)(state, outputs, np.eye(2)[:1], [0])
  assert np.isfinite(result.state.variance)
  assert np.isfinite(result.totals["unlabelled"])

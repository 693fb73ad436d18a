"""Logit adjustment over methods against arXiv 2007.07314, in plain NumPy."""

import numpy as np
import pytest

from ssljax.method import Outputs
from ssljax.wrappers import logit_adjustment
from tests.golden import fake, plain, wrapped

TAU = 1.5
COUNTS = {2: (13, 3), 5: (20, 9, 9, 1, 2)}


def shift(counts):
  """tau log pi of the labelled texts."""
  return TAU * np.log([count / sum(counts) for count in counts])


@pytest.mark.parametrize("inner", wrapped.INNER)
@pytest.mark.parametrize("classes", [2, 5])
def test_equals_the_equations(inner, classes):
  random = np.random.default_rng(classes)
  method = logit_adjustment.make(wrapped.method(inner), TAU)
  take = fake.stepper(method)
  state = method.init(wrapped.sizes(classes, COUNTS[classes]))
  rule, by = wrapped.reference(inner, classes), shift(COUNTS[classes])
  for step, (outputs, label, index) in enumerate(wrapped.scenes(random, classes)):
    result = take(state, outputs, label, index, step)
    state = result.state
    assigned = rule.step(outputs["unlabelled.weak"]["logits"])
    trained = wrapped.trained_logits(outputs, by, by)
    wrapped.Expected(assigned, trained, label).check(result)
    np.testing.assert_allclose(TAU * np.asarray(state.prior), by, rtol=1e-5)
    if step in (2, 3) and inner == "fixmatch":
      assert {weight for _, weight in assigned} == {step - 2.0}


def prior(counts):
  method = logit_adjustment.make(wrapped.method("fixmatch"))
  return np.exp(method.init(wrapped.sizes(len(counts), counts)).prior)


def test_the_prior_is_estimated_from_the_labelled_texts():
  np.testing.assert_allclose(prior((30, 6, 4)), [0.75, 0.15, 0.1], rtol=1e-5)
  np.testing.assert_allclose(prior((1, 1)), [0.5, 0.5], rtol=1e-5)


def test_a_class_without_labelled_texts_counts_as_having_one():
  found = prior((30, 0, 1))
  assert found[1] == found[2] == pytest.approx(found[0] / 30, rel=1e-5)


@pytest.mark.parametrize("inner", wrapped.INNER)
def test_with_strength_0_the_method_is_unchanged(inner):
  method = wrapped.method(inner)
  wrapped.assert_same(logit_adjustment.make(method, tau=0.0), method, (7, 0, 1))


def test_balanced_classes_change_nothing():
  method = logit_adjustment.make(wrapped.method("fixmatch"), TAU)
  outputs, label, index = next(wrapped.scenes(np.random.default_rng(0), 3))
  found = fake.stepper(method)(
    method.init(wrapped.sizes(3, (4, 4, 4))), outputs, label, index
  )
  assigned = plain.FixMatch(0.8).step(outputs["unlabelled.weak"]["logits"])
  wrapped.Expected(assigned, wrapped.trained_logits(outputs), label).check(found)


def test_predictions_are_not_shifted():
  method = wrapped.method("fixmatch")
  outputs = Outputs(np.arange(6.0).reshape(2, 3), None, {})
  found = logit_adjustment.make(method, TAU).predict(outputs)
  np.testing.assert_array_equal(found, outputs.logits)

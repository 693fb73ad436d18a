"""Pseudo-Label against Lee 2013, equations 15 and 16, in plain Python."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import pseudo_label
from tests.golden import fake

U = 24


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
  ("spread", "least", "most"), [(0.1, 0, 0), (2.0, 1, U - 1), (4000.0, U, U)]
)
def test_equals_the_equations(classes, spread, least, most):
  random = np.random.default_rng(classes)
  method = pseudo_label.make(threshold=0.8, scale=0.7, ramp=0.4)
  take = fake.stepper(method)
  state = method.init(Sizes(classes, 6, U, 6, U))
  ramps = [(0.0, 0.0), (0.1, 0.25), (0.3, 0.75), (0.4, 1.0), (0.9, 1.0)]
  for step, (progress, ramp) in enumerate(ramps):
    outputs = fake.random_outputs(random, classes, spread=spread)
    text = outputs["unlabelled.weak"]["logits"]
    text += np.arange(classes) / 16  # no tie, so that all can be sure
    text[:, -1] -= 9 * (step == 1)  # a class nobody predicts
    label = fake.random_labels(random, 6, classes)
    result = take(state, outputs, label, np.arange(U), step, progress)
    state = result.state

    loss, selected, slopes = 0.0, 0, np.zeros((U, classes))
    for u in range(U):
      p = fake.softmax(text[u])
      target = fake.one_hot(fake.argmax(p), classes)
      passes = max(p) >= 0.8
      selected += passes
      loss += passes * fake.cross_entropy(text[u], target)
      slopes[u] = passes * np.array(fake.ce_gradient(text[u], target))
      np.testing.assert_array_equal(result.assigned.target[u], target)
      assert result.assigned.weight[u] == passes
    if step != 1:
      assert least <= selected <= most
    assert result.totals == pytest.approx(
      {
        "labelled": fake.mean_cross_entropy(outputs["labelled.weak"]["logits"], label),
        "unlabelled": 0.7 * ramp * loss / U,
      },
      rel=1e-5,
      abs=1e-7,  # of what is all but 1
    )
    # What is labelled is what learns: the same text, in the same pass.
    np.testing.assert_allclose(
      result.gradient["unlabelled.weak"]["logits"],
      0.7 * ramp * slopes / U,
      rtol=1e-4,
      atol=1e-7,
    )
    assert not np.any(result.gradient["unlabelled.strong"]["logits"])


def test_ties_take_the_first_class_and_the_threshold_is_inclusive():
  outputs = {"labelled.weak": {"logits": np.zeros((1, 2))}}
  outputs["unlabelled.weak"] = {"logits": np.zeros((1, 2))}
  take = fake.stepper(pseudo_label.make(threshold=0.5))
  result = take((), outputs, np.eye(2)[:1], [0], progress=1.0)
  np.testing.assert_array_equal(result.assigned.target, [[1, 0]])
  np.testing.assert_array_equal(result.assigned.weight, [1])


def test_with_a_threshold_of_0_every_text_is_used():
  outputs = fake.random_outputs(np.random.default_rng(0), 5, spread=0.1)
  label = fake.random_labels(np.random.default_rng(0), 6, 5)
  take = fake.stepper(pseudo_label.make(threshold=0.0))
  result = take((), outputs, label, np.arange(U), progress=1.0)
  np.testing.assert_array_equal(result.assigned.weight, np.ones(U))

"""FixMatch against arXiv 2001.07685, equations 3 and 4, in plain NumPy."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import fixmatch
from tests.golden import fake, plain


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
  ("spread", "least", "most"), [(0.1, 0, 0), (2.0, 1, 23), (4000.0, 24, 24)]
)
def test_equals_the_equations(classes, spread, least, most):
  random = np.random.default_rng(classes)
  method = fixmatch.make(threshold=0.8, scale=0.7)
  take = fake.stepper(method)
  state = method.init(Sizes(classes, 6, 24, 6, 24))
  for step in range(3):
    outputs = fake.random_outputs(random, classes)
    weak = outputs["unlabelled.weak"]["logits"]
    # A sixteenth more to each next class: no tie, so that all can be sure.
    weak[:] = fake.random_logits(random, 24, classes, spread=spread)
    weak += np.arange(classes) / 16
    weak[:, -1] -= 9 * (step == 1)  # a class nobody predicts
    label = fake.random_labels(random, 6, classes)
    result = take(state, outputs, label, np.arange(24), step)
    state = result.state

    taught = [
      (fake.one_hot(c, classes), passes) for c, passes in plain.FixMatch(0.8).step(weak)
    ]
    if step != 1:
      assert least <= sum(passes for _, passes in taught) <= most
    plain.check_consistency(result, outputs, label, taught)


def test_ties_take_the_first_class_and_the_threshold_is_inclusive():
  take = fake.simple_stepper(fixmatch.make(threshold=0.5))
  outputs = fake.Logits(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 2)))
  result = take((), outputs, np.eye(2)[:1], [0])
  np.testing.assert_array_equal(result.assigned.target, [[1, 0]])
  np.testing.assert_array_equal(result.assigned.weight, [1])

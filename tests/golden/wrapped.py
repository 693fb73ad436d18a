"""What the tests of the wrappers share: wrapped methods, inputs and expected results.

The wrapped methods compute targets from the weak view, and train on the labelled and
the strong view.
"""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import fixmatch, softmatch
from tests.golden import fake, plain

B, U, ROWS, SCALE = 6, 24, 40, 0.7
INNER = ("fixmatch", "softmatch")


def method(name):
  """The method to wrap."""
  if name == "fixmatch":
    return fixmatch.make(threshold=0.8, scale=SCALE)
  return softmatch.make(time_constant=0.0, scale=SCALE, momentum=0.6)


def reference(name, classes):
  return plain.FixMatch(0.8) if name == "fixmatch" else plain.SoftMatch(classes, 0.6)


def sizes(classes, counts=None, **more) -> Sizes:
  counts = tuple(range(9, 9 - classes, -1)) if counts is None else counts
  return Sizes(
    classes, sum(counts), ROWS, B, U, labelled_counts=counts, **{"steps": 20} | more
  )


def scenes(random, classes, features=0):
  """(outputs, label, index) of six steps.

  Random; one class never predicted; no confidence; full confidence; random, twice. Ties
  are common.
  """
  for step in range(6):
    outputs = fake.random_outputs(random, classes, B, U)
    del outputs["teacher.weak"]
    weak = outputs["unlabelled.weak"]["logits"]
    weak[:, -1] -= 30 * (step == 1)
    if step == 2:
      weak[:] = 0
    if step == 3:
      weak[:] = 50 * np.eye(classes)[np.arange(U) % classes]
    for view in outputs.values():
      if features:
        count = len(view["logits"])
        view["features"] = random.normal(size=(count, features))
    yield outputs, fake.random_labels(random, B, classes), random.permutation(ROWS)[:U]


class Expected:
  """Expected results of a method with hard labels.

  Args:
    assigned: (label, weight) of each unlabelled text.
    trained: logits of "labelled.weak" and "unlabelled.strong" in the loss.
    labelled_weight, unlabelled_weight: further weights of the texts, by default 1.
  """

  def __init__(
    self, assigned, trained, label, labelled_weight=None, unlabelled_weight=None
  ):
    classes = label.shape[1]
    labelled_weight = np.ones(B) if labelled_weight is None else labelled_weight
    unlabelled_weight = np.ones(U) if unlabelled_weight is None else unlabelled_weight
    self.target = [fake.one_hot(c, classes) for c, _ in assigned]
    self.weight = np.array([weight for _, weight in assigned])
    views = {
      "labelled.weak": (label, labelled_weight, 1.0),
      "unlabelled.strong": (self.target, self.weight * unlabelled_weight, SCALE),
    }
    self.totals, self.gradients = {}, {"unlabelled.weak": np.zeros((U, classes))}
    for view, (target, weight, scale) in views.items():
      texts = list(zip(trained[view], target, weight, strict=True))
      loss = sum(w * fake.cross_entropy(z, t) for z, t, w in texts)
      self.totals[view.partition(".")[0]] = scale * loss / len(texts)
      rows = [w * np.array(fake.ce_gradient(z, t)) for z, t, w in texts]
      self.gradients[view] = scale * np.array(rows) / len(texts)

  def check(self, result, **more):
    """`more` are totals of other terms."""
    np.testing.assert_array_equal(result.assigned.target, self.target)
    np.testing.assert_allclose(result.assigned.weight, self.weight, rtol=1e-3)
    assert result.totals == pytest.approx(self.totals | more, rel=3e-4, abs=1e-6)
    for view, expected in self.gradients.items():
      gradient = result.gradient[view]["logits"]
      np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-6)


def trained_logits(outputs, labelled=0.0, strong=0.0):
  """Logits of the two views that are trained, shifted."""
  return {
    "labelled.weak": outputs["labelled.weak"]["logits"] + labelled,
    "unlabelled.strong": outputs["unlabelled.strong"]["logits"] + strong,
  }


def assert_same(wrapped, inner, counts, **more):
  """Checks that two methods give identical results in all scenes."""
  classes, random = len(counts), np.random.default_rng(3)
  take_step = [fake.stepper(method) for method in (wrapped, inner)]
  states = [method.init(sizes(classes, counts, **more)) for method in (wrapped, inner)]
  for step, (outputs, label, index) in enumerate(scenes(random, classes)):
    results = [
      take(state, outputs, label, index, step)
      for take, state in zip(take_step, states, strict=True)
    ]
    states = [result.state for result in results]
    result, expected = results
    assert result.totals == expected.totals
    np.testing.assert_array_equal(result.assigned.target, expected.assigned.target)
    np.testing.assert_array_equal(result.assigned.weight, expected.assigned.weight)
    for view, gradient in expected.gradient.items():
      np.testing.assert_array_equal(result.gradient[view]["logits"], gradient["logits"])

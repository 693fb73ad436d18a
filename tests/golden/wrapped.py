"""What the tests of the wrappers share: wrapped methods, scenes, and how they are told.

Texts are told apart by their weak view, and learn by their labelled and strong views.
"""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import fixmatch, softmatch
from tests.golden import fake, plain

B, U, ROWS, SCALE = 6, 24, 40, 0.7
INNER = ("fixmatch", "softmatch")


def method(name):
  """The method that is wrapped."""
  if name == "fixmatch":
    return fixmatch.make(threshold=0.8, scale=SCALE)
  return softmatch.make(scale=SCALE, momentum=0.6)


def reference(name, classes):
  return plain.FixMatch(0.8) if name == "fixmatch" else plain.SoftMatch(classes, 0.6)


def sizes(classes, counts=None, **more) -> Sizes:
  counts = tuple(range(9, 9 - classes, -1)) if counts is None else counts
  return Sizes(
    classes, sum(counts), ROWS, B, U, labelled_counts=counts, **{"steps": 20} | more
  )


def scenes(random, classes, features=0):
  """(said, label, index) of six steps.

  As it comes; a class nobody predicts; nobody sure of anything; all sure; as it comes,
  twice. Ties are common.
  """
  for step in range(6):
    said = fake.speech(random, classes, B, U)
    del said["teacher.weak"]
    weak = said["unlabelled.weak"]["logits"]
    weak[:, -1] -= 30 * (step == 1)
    if step == 2:
      weak[:] = 0
    if step == 3:
      weak[:] = 50 * np.eye(classes)[np.arange(U) % classes]
    for heard in said.values():
      if features:
        many = len(heard["logits"])
        heard["features"] = random.normal(size=(many, features))
    yield said, fake.labels(random, B, classes), random.permutation(ROWS)[:U]


class Expected:
  """What a method of hard labels must give: `taught` is (label, weight) of each text.

  `heard` of "labelled.weak" and "unlabelled.strong" are the logits that it learns by,
  `own` and `more` weigh the labelled and the unlabelled texts.
  """

  def __init__(self, taught, heard, label, own=None, more=None):
    classes = label.shape[1]
    own = np.ones(B) if own is None else own
    more = np.ones(U) if more is None else more
    self.target = [fake.one_hot(c, classes) for c, _ in taught]
    self.weight = np.array([weight for _, weight in taught])
    views = {
      "labelled.weak": (label, own, 1.0),
      "unlabelled.strong": (self.target, self.weight * more, SCALE),
    }
    self.totals, self.slopes = {}, {"unlabelled.weak": np.zeros((U, classes))}
    for view, (target, weight, scale) in views.items():
      told = list(zip(heard[view], target, weight, strict=True))
      loss = sum(w * fake.surprise(z, t) for z, t, w in told)
      self.totals[view.partition(".")[0]] = scale * loss / len(told)
      slopes = [w * np.array(fake.slope(z, t)) for z, t, w in told]
      self.slopes[view] = scale * np.array(slopes) / len(told)

  def check(self, result, **more):
    """`more` are totals of other terms."""
    np.testing.assert_array_equal(result.assigned.target, self.target)
    np.testing.assert_allclose(result.assigned.weight, self.weight, rtol=1e-3)
    assert result.totals == pytest.approx(self.totals | more, rel=3e-4, abs=1e-6)
    for view, slopes in self.slopes.items():
      found = result.gradient[view]["logits"]
      np.testing.assert_allclose(found, slopes, rtol=1e-3, atol=1e-6)


def heard(said, labelled=0.0, strong=0.0):
  """Logits of the two views that learn, shifted."""
  return {
    "labelled.weak": said["labelled.weak"]["logits"] + labelled,
    "unlabelled.strong": said["unlabelled.strong"]["logits"] + strong,
  }


def same(wrapped, inner, counts, **more):
  """That two methods say the same of all scenes, to the last digit."""
  classes, random = len(counts), np.random.default_rng(3)
  takes = [fake.stepper(one) for one in (wrapped, inner)]
  states = [one.init(sizes(classes, counts, **more)) for one in (wrapped, inner)]
  for step, (said, label, index) in enumerate(scenes(random, classes)):
    results = [
      take(state, said, label, index, step)
      for take, state in zip(takes, states, strict=True)
    ]
    states = [result.state for result in results]
    found, expected = results
    assert found.totals == expected.totals
    np.testing.assert_array_equal(found.assigned.target, expected.assigned.target)
    np.testing.assert_array_equal(found.assigned.weight, expected.assigned.weight)
    for view, one in expected.gradient.items():
      np.testing.assert_array_equal(found.gradient[view]["logits"], one["logits"])

"""How wrappers record and change the outputs of the passes that a method runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.batch import Batch, Labelled, Unlabelled
from ssljax.method import Head, Needs, Outputs
from ssljax.wrappers import recording_forward
from ssljax.wrappers.recording_forward import (
  LABELLED,
  MIXED,
  STRONG,
  VOTES,
  Pass,
  RecordingForward,
)
from ssljax.wrappers.requirements import refuse

KEY = jax.random.key(0)
LABELLED_WEAK, WEAK, STRONG_TEXTS = object(), object(), object()
BATCH = Batch(
  Labelled({"weak": LABELLED_WEAK}, None, None),
  Unlabelled({"weak": WEAK, "strong": STRONG_TEXTS}, None),
)


class Model:
  """Outputs 0 for the weak view and 1 for any other, and records its calls."""

  depth = 6

  def __init__(self):
    self.calls = []

  def __call__(self, *texts, key, teacher=False, gradient=True):
    self.calls.append((texts, teacher, gradient))
    results = tuple(outputs(float(view is not WEAK)) for view in texts)
    return results if len(texts) > 1 else results[0]

  def classify(self, features):
    return outputs(2.0)

  def mix(self, *arguments):
    return outputs(3.0)

  def embed(self, texts):
    return "embedded"


def outputs(value):
  return Outputs(jnp.full((2, 3), value), jnp.zeros((2, 4)), {})


def add_ten(outputs, name):
  return outputs._replace(logits=outputs.logits + 10)


def test_without_a_change_everything_is_passed_on():
  model = Model()
  forward = RecordingForward(model, BATCH)
  weak, strong = forward(WEAK, STRONG_TEXTS, key=KEY)
  assert (weak.logits[0, 0], strong.logits[0, 0]) == (0, 1)
  assert forward.classify(None).logits[0, 0] == 2
  assert forward.mix(None).logits[0, 0] == 3
  assert (forward.embed(None), forward.depth) == ("embedded", 6)
  assert model.calls == [((WEAK, STRONG_TEXTS), False, True)]


def test_a_change_gets_the_name_of_the_pass():
  names = []

  def change(outputs, name):
    names.append(name)
    return add_ten(outputs, name)

  forward = RecordingForward(Model(), BATCH, change)
  assert forward(WEAK, key=KEY, gradient=False).logits[0, 0] == 10
  assert forward(LABELLED_WEAK, STRONG_TEXTS, key=KEY)[1].logits[0, 0] == 11
  forward(STRONG_TEXTS, key=KEY, teacher=True)  # a teacher's pass has no gradient
  forward(object(), key=KEY)
  assert forward.classify(None).logits[0, 0] == 12
  assert forward.mix(None).logits[0, 0] == 13
  untrained = Pass("unlabelled", "strong", trains=False)
  assert names == [VOTES, LABELLED, STRONG, untrained, MIXED, MIXED, MIXED]


def test_outputs_are_recorded_unchanged_and_missing_ones_are_computed():
  model = Model()
  forward = RecordingForward(model, BATCH, add_ten)
  forward(WEAK, key=KEY, gradient=False)
  assert forward.outputs(VOTES, KEY).logits[0, 0] == 0
  assert len(model.calls) == 1
  assert forward.outputs(STRONG, KEY).logits[0, 0] == 1
  assert model.calls[1] == ((STRONG_TEXTS,), False, True)


def test_shifts_apply_to_logits_and_voters_but_not_to_virtual_classes():
  heads = {"voters": jnp.zeros((2, 5, 4)), "projection": jnp.zeros((2, 7))}
  before = Outputs(jnp.zeros((2, 4)), jnp.zeros((2, 4)), heads)
  after = recording_forward.shift_logits(before, jnp.array([1.0, 2.0, 3.0]))
  np.testing.assert_array_equal(after.logits, [[1, 2, 3, 0]] * 2)
  np.testing.assert_array_equal(after.heads["voters"], [[[1, 2, 3, 0]] * 5] * 2)
  assert not after.heads["projection"].any()


def test_new_logits_have_the_given_softmax():
  p = jnp.array([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0]])
  replaced = recording_forward.with_probability(outputs(0.0), p)
  np.testing.assert_allclose(jax.nn.softmax(replaced.logits), p, atol=1e-7)
  assert np.isfinite(replaced.logits).all()


@pytest.mark.parametrize(
  "needs",
  [
    Needs(virtual_classes=1),
    Needs(heads={"voters": Head("classifier", 3)}),
    Needs(heads={"peers": Head("network", 2)}),
  ],
)
def test_voters_networks_and_virtual_classes_are_several_classifiers(needs):
  refuse(Needs(), "several_classifiers")
  with pytest.raises(
    ValueError, match="several voters or networks, or virtual classes"
  ):
    refuse(needs, "several_classifiers")

"""What a wrapper hears of a method, and what it changes on the way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.method import Head, Needs, Outputs
from ssljax.wrappers import recording_forward

KEY = jax.random.key(0)
WEAK, STRONG = object(), object()  # a view is known by being the very object


class Model:
  """Says of the weak view 0 and of any other 1, and counts how often it is asked."""

  depth = 6

  def __init__(self):
    self.asked = []

  def __call__(self, *texts, key, teacher=False, gradient=True):
    self.asked.append((texts, teacher, gradient))
    found = tuple(said(float(view is not WEAK)) for view in texts)
    return found if len(texts) > 1 else found[0]

  def classify(self, features):
    return said(2.0)

  def mix(self, *given):
    return said(3.0)

  def embed(self, texts):
    return "embedded"


def said(value):
  return Outputs(jnp.full((2, 3), value), jnp.zeros((2, 4)), {})


def heard(change=None):
  model = Model()
  made = [model] if change is None else [model, change]
  return model, recording_forward.Listening(*made)


def test_without_a_change_all_is_passed_on():
  model, forward = heard()
  weak, strong = forward(WEAK, STRONG, key=KEY)
  assert (weak.logits[0, 0], strong.logits[0, 0]) == (0, 1)
  assert forward.classify(None).logits[0, 0] == 2
  assert forward.mix(None).logits[0, 0] == 3
  assert (forward.embed(None), forward.depth) == ("embedded", 6)
  assert model.asked == [((WEAK, STRONG), False, True)]


def test_a_change_knows_the_view_and_whether_the_pass_learns():
  seen = []

  def change(one, view, learns):
    seen.append((view, learns))
    return one._replace(logits=one.logits + 10)

  _, forward = heard(change)
  assert forward(WEAK, key=KEY, gradient=False).logits[0, 0] == 10
  assert forward(WEAK, STRONG, key=KEY)[1].logits[0, 0] == 11
  forward(STRONG, key=KEY, teacher=True)  # a teacher takes no gradient
  assert forward.classify(None).logits[0, 0] == 12
  assert forward.mix(None).logits[0, 0] == 13
  assert seen == [
    *((WEAK, False), (WEAK, True), (STRONG, True), (STRONG, False)),
    *((None, True), (None, True)),
  ]


def test_what_was_said_is_remembered_unchanged_and_asked_for_once_at_most():
  model, forward = heard(lambda one, *_: one._replace(logits=one.logits + 10))
  forward(WEAK, key=KEY, gradient=False)
  assert forward.said(WEAK, False, KEY).logits[0, 0] == 0
  assert len(model.asked) == 1
  assert forward.said(WEAK, True, KEY).logits[0, 0] == 0  # not heard with a gradient
  assert model.asked[1] == ((WEAK,), False, True)


def test_shifts_reach_logits_and_voters_and_no_virtual_class():
  needs = Needs(
    heads={"voters": Head("classifier", 2), "projection": Head("projection")}
  )
  names = recording_forward.voters(needs)
  assert names == ["voters"]
  heads = {"voters": jnp.zeros((2, 5, 4)), "projection": jnp.zeros((2, 7))}
  before = Outputs(jnp.zeros((2, 4)), jnp.zeros((2, 4)), heads)
  after = recording_forward.shifted(before, jnp.array([1.0, 2.0, 3.0]), names)
  np.testing.assert_array_equal(after.logits, [[1, 2, 3, 0]] * 2)
  np.testing.assert_array_equal(after.heads["voters"], [[[1, 2, 3, 0]] * 5] * 2)
  assert not after.heads["projection"].any()


def test_what_is_told_is_a_distribution():
  p = jnp.array([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0]])
  told = recording_forward.told(said(0.0), p)
  np.testing.assert_allclose(jax.nn.softmax(told.logits), p, atol=1e-7)
  assert np.isfinite(told.logits).all()


@pytest.mark.parametrize(
  "needs", [Needs(virtual_classes=1), Needs(heads={"voters": Head("classifier", 3)})]
)
def test_one_distribution_is_not_told_to_several(needs):
  recording_forward.refuse_several(Needs())
  with pytest.raises(ValueError, match="several voters or virtual classes"):
    recording_forward.refuse_several(needs)

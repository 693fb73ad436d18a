"""MixMatch on text against arXiv 1905.02249, in plain NumPy."""

import functools

import jax
import numpy as np
import pytest

from ssljax.method import Outputs, Sizes
from ssljax.methods import mixmatch
from ssljax.ops import mixing
from tests.golden import fake, plain

B, U, WIDTH = 5, 8, 4
ALPHA, TEMPERATURE, SCALE, RAMP = 0.6, 0.5, 3.0, 0.4
VIEWS = ("labelled.weak", "unlabelled.weak", "unlabelled.strong")  # as they are mixed
KEY = jax.random.key(0)


@functools.cache
def stepping(mix):
  """The method and its step, compiled once."""
  method = mixmatch.make(mix, ALPHA, TEMPERATURE, SCALE, RAMP)
  return method, fake.stepper(method)


def speech(random, classes, spread=2.0):
  """Gives other logits to the pass without gradient, which guesses."""
  outputs = {"kernel": random.normal(size=(WIDTH, classes))}
  for name, n in zip(VIEWS, (B, U, U), strict=True):
    features = random.normal(size=(n, WIDTH))
    logits = fake.random_logits(random, n, classes)
    outputs[name] = {"logits": logits, "features": features}
    vote = fake.random_logits(random, n, classes, spread=spread)
    outputs[f"{name}/vote"] = {"logits": vote}
  return outputs


def draws(step):
  """Draws partners and shares like the method."""
  key = jax.random.fold_in(jax.random.key(5), step)
  rows = [np.arange(n, dtype=np.int32) for n in (B, U, U)]
  pairs = mixing.pairs(jax.random.split(key, 3)[1], rows, ALPHA)
  return [np.asarray(one) for one in pairs]


def guesses(outputs):
  """The mean prediction for the two views, sharpened."""
  both = [outputs[f"{name}/vote"]["logits"] for name in VIEWS[1:]]
  return [
    plain.sharpened(plain.mean([fake.softmax(a), fake.softmax(b)]), TEMPERATURE)
    for a, b in zip(*both, strict=True)
  ]


def losses(mixed, label, guess, partner, share):
  """(labelled, unlabelled without its weight) losses of mixed logits."""
  targets = plain.mixture([*label, *guess, *guess], partner, share)
  pairs = list(zip(mixed, targets, strict=True))
  square = [
    len(y) / 2 * sum((p - t) ** 2 for p, t in zip(fake.softmax(z), y, strict=True))
    for z, y in pairs[B:]
  ]
  return sum(fake.cross_entropy(*pair) for pair in pairs[:B]) / B, sum(square) / (2 * U)


STEPS = ((0.0, 2.0), (0.1, 0.0), (0.39, 9.0), (0.4, 0.3), (0.9, 40.0))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("mix", "classes"), [("pooled", 2), ("pooled", 5), ("hidden", 5)]
)
def test_equals_the_equations(mix, classes):
  random = np.random.default_rng(classes)
  method, take = stepping(mix)
  assert method.needs.layout == ("padded" if mix == "hidden" else "")
  state = method.init(Sizes(classes, B, U, B, U))
  layers = set()
  for step, (progress, spread) in enumerate(STEPS):
    outputs = speech(random, classes, spread)
    for name in VIEWS[1:]:
      outputs[f"{name}/vote"]["logits"][:, 0] -= 9 * (step == 2)  # nobody's class
    label = fake.random_labels(random, B, classes)
    result = take(state, outputs, label, np.arange(U), step, progress, step)
    state = result.state

    guess, (partner, share) = guesses(outputs), draws(step)
    np.testing.assert_allclose(result.assigned.target, guess, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(result.assigned.weight, np.ones(U))
    ramp = min(progress / RAMP, 1.0)
    depths = range(13) if mix == "hidden" else [None]
    fits = []
    for layer in depths:
      mixed = plain.mixed_logits(outputs, VIEWS, partner, share, layer)
      own, square = losses(mixed, label, guess, partner, share)
      expected = {"labelled": own, "unlabelled": SCALE * ramp * square}
      if result.totals == pytest.approx(expected, rel=1e-5):
        fits.append(layer)
    assert len(fits) == 1
    layers.update(fits)
  assert len(layers) > 1 or mix == "pooled"


def test_mixed_features_have_a_gradient_and_guesses_have_none():
  """Published code for text takes the features from the pass without gradient."""
  random = np.random.default_rng(0)
  outputs, label = speech(random, 5), fake.random_labels(random, B, 5)
  result = stepping("pooled")[1]((), outputs, label, np.arange(U), 7, 0.3)
  guess, (partner, share) = guesses(outputs), draws(7)

  def total(view, features):
    changed = outputs | {view: outputs[view] | {"features": features}}
    mixed = plain.mixed_logits(changed, VIEWS, partner, share)
    own, square = losses(mixed, label, guess, partner, share)
    return own + SCALE * 0.75 * square

  for view in VIEWS:
    found = result.gradient[view]["features"]
    for place in ((0, 0), (1, 2), (4, 3)):
      here = functools.partial(total, view)
      slope = plain.slope(here, outputs[view]["features"], place)
      assert found[place] == pytest.approx(slope, rel=1e-3, abs=1e-6)
      assert np.abs(found).max() > 1e-3
    for name in (view, f"{view}/vote"):
      assert not np.any(result.gradient[name]["logits"])


def test_the_layer_is_one_of_the_three_of_tmix():
  """7, 9 and 12 of BERT's twelve layers, scaled to other depths."""

  class Deep:
    def mix(self, views, partner, share, layer, key):
      return Outputs(layer, None, {})

  for depth, expected in ((12, {7, 9, 12}), (24, {14, 18, 24}), (6, {4, 5, 6})):
    forward = Deep()
    forward.depth = depth
    draw = functools.partial(mixing.logits, forward, ["a"], None, None)
    layers = {int(draw(key, "hidden")[0]) for key in jax.random.split(KEY, 40)}
    assert layers == expected

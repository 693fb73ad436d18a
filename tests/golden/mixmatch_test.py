"""MixMatch on text against arXiv 1905.02249, in plain NumPy."""

import jax
import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import mixmatch
from ssljax.ops import mixing

from . import fake, plain

B, U, WIDTH = 5, 8, 4
ALPHA, TEMPERATURE, SCALE, RAMP = 0.6, 0.5, 3.0, 0.4
VIEWS = ("labelled.weak", "unlabelled.weak", "unlabelled.strong")  # as they are mixed


def speech(random, classes, spread=2.0):
  """A pass without gradient, which guesses, hears other logits."""
  said = {"kernel": random.normal(size=(WIDTH, classes))}
  for name, n in zip(VIEWS, (B, U, U), strict=True):
    features = random.normal(size=(n, WIDTH))
    logits = fake.logits(random, n, classes)
    said[name] = {"logits": logits, "features": features}
    vote = fake.logits(random, n, classes, spread=spread)
    said[f"{name}/vote"] = {"logits": vote}
  return said


def draws(step):
  """Partners and shares, as the method draws them."""
  key = jax.random.fold_in(jax.random.key(5), step)
  rows = [np.arange(n, dtype=np.int32) for n in (B, U, U)]
  pairs = mixing.pairs(jax.random.split(key, 3)[1], rows, ALPHA)
  return [np.asarray(one) for one in pairs]


def guesses(said):
  """The mean of what is said of the two views, sharpened."""
  both = [said[f"{name}/vote"]["logits"] for name in VIEWS[1:]]
  return [
    plain.sharpened(plain.mean([fake.softmax(a), fake.softmax(b)]), TEMPERATURE)
    for a, b in zip(*both, strict=True)
  ]


def losses(mixed, label, guess, partner, share):
  """(labelled, unlabelled before its weight) of the logits of mixed texts."""
  targets = plain.mixture([*label, *guess, *guess], partner, share)
  pairs = list(zip(mixed, targets, strict=True))
  square = [
    plain.mean([[(p - t) ** 2] for p, t in zip(fake.softmax(z), y, strict=True)])[0]
    for z, y in pairs[B:]
  ]
  return sum(fake.surprise(*pair) for pair in pairs[:B]) / B, sum(square) / (2 * U)


def pooled(said, partner, share):
  features = np.concatenate([said[name]["features"] for name in VIEWS])
  kernel = np.asarray(said["kernel"], np.float64)
  return [row @ kernel for row in plain.mixture(features, partner, share)]


def hidden(said, partner, share, layer):
  logits = np.concatenate([said[name]["logits"] for name in VIEWS])
  return [(1 + layer) * row for row in plain.mixture(logits, partner, share)]


STEPS = ((0.0, 2.0), (0.1, 0.0), (0.39, 9.0), (0.4, 0.3), (0.9, 40.0))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("mix", ["pooled", "hidden"])
def test_equals_the_equations(classes, mix):
  random = np.random.default_rng(classes)
  method = mixmatch.make(mix, ALPHA, TEMPERATURE, SCALE, RAMP)
  assert method.needs.layout == ("padded" if mix == "hidden" else "")
  take = fake.stepper(method)
  state = method.init(Sizes(classes, B, U, B, U))
  layers = set()
  for step, (progress, spread) in enumerate(STEPS):
    said = speech(random, classes, spread)
    for name in VIEWS[1:]:
      said[f"{name}/vote"]["logits"][:, 0] -= 9 * (step == 2)  # nobody's class
    label = fake.labels(random, B, classes)
    result = take(state, said, label, np.arange(U), step, progress, step)
    state = result.state

    guess, (partner, share) = guesses(said), draws(step)
    np.testing.assert_allclose(result.assigned.target, guess, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(result.assigned.weight, np.ones(U))
    ramp = min(progress / RAMP, 1.0)
    depths = range(13) if mix == "hidden" else [None]
    fits = []
    for layer in depths:
      mixed = (
        pooled(said, partner, share)
        if layer is None
        else hidden(said, partner, share, layer)
      )
      own, square = losses(mixed, label, guess, partner, share)
      expected = {"labelled": own, "unlabelled": SCALE * ramp * square}
      if result.totals == pytest.approx(expected, rel=1e-5):
        fits.append(layer)
    assert len(fits) == 1
    layers.update(fits)
  assert len(layers) > 1 or mix == "pooled"


@pytest.mark.parametrize("view", VIEWS)
def test_mixed_features_have_a_gradient_into_the_encoder(view):
  """Published text code takes unlabelled features from the pass without gradient."""
  random = np.random.default_rng(0)
  said, label = speech(random, 3), fake.labels(random, B, 3)
  take = fake.stepper(mixmatch.make("pooled", ALPHA, TEMPERATURE, SCALE, RAMP))
  result = take((), said, label, np.arange(U), 7, 0.3)
  guess, (partner, share) = guesses(said), draws(7)

  def total(features):
    changed = said | {view: said[view] | {"features": features}}
    mixed = pooled(changed, partner, share)
    own, square = losses(mixed, label, guess, partner, share)
    return own + SCALE * 0.75 * square

  found = result.gradient[view]["features"]
  for place in ((0, 0), (1, 2), (4, 3)):
    slope = plain.slope(total, said[view]["features"], place)
    assert found[place] == pytest.approx(slope, rel=1e-3, abs=1e-6)
    assert abs(found[place]) > 1e-5


def test_guesses_have_no_gradient():
  random = np.random.default_rng(0)
  said = speech(random, 3)
  for name in VIEWS:
    said.pop(f"{name}/vote")
  take = fake.stepper(mixmatch.make("pooled", ALPHA, TEMPERATURE, SCALE, RAMP))
  label = fake.labels(random, B, 3)
  gradient = take((), said, label, np.arange(U), progress=1.0).gradient
  assert not any(np.any(gradient[name]["logits"]) for name in VIEWS)  # all by features


def test_without_a_ramp_the_term_has_its_full_weight_at_once():
  random = np.random.default_rng(0)
  said, label = speech(random, 3), fake.labels(random, B, 3)
  unlabelled = [
    fake.stepper(mixmatch.make(scale=SCALE, ramp=ramp))(
      (), said, label, np.arange(U), progress=progress
    ).totals["unlabelled"]
    for ramp, progress in ((0.0, 0.0), (0.5, 1.0))
  ]
  assert unlabelled[0] == pytest.approx(unlabelled[1]) != 0

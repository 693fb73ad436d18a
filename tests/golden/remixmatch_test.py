"""ReMixMatch on text against arXiv 1911.09785, in plain NumPy."""

import functools

import jax
import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import remixmatch
from ssljax.ops import alignment, mixing
from tests.golden import fake, plain

B, U, WIDTH = 5, 7, 4
ALPHA, TEMPERATURE, SCALE, ANCHOR, WINDOW, RAMP = 0.75, 0.5, 1.5, 0.6, 3, 0.25
# As they are mixed.
VIEWS = ("labelled.weak", *(f"unlabelled.{v}" for v in ("strong", "strong_2", "weak")))


@functools.cache
def stepping(mix):
  """The method and its step, compiled once."""
  method = remixmatch.make(mix, ALPHA, TEMPERATURE, SCALE, ANCHOR, WINDOW, RAMP)
  return method, fake.stepper(method)


def speech(random, classes, spread=2.0):
  """Gives other logits to the pass without gradient, which guesses."""
  outputs = {"kernel": random.normal(size=(WIDTH, classes))}
  for name, n in zip(VIEWS, (B, U, U, U), strict=True):
    features = random.normal(size=(n, WIDTH))
    outputs[name] = {
      "logits": fake.random_logits(random, n, classes),
      "features": features,
    }
  vote = fake.random_logits(random, U, classes, spread=spread)
  return outputs | {"unlabelled.weak/vote": {"logits": vote}}


def draws(step):
  """Draws partners and shares like the method."""
  key = jax.random.fold_in(jax.random.key(5), step)
  rows = [np.arange(n, dtype=np.int32) for n in (B, U, U, U)]
  pairs = mixing.pairs(jax.random.split(key, 4)[1], rows, ALPHA)
  return [np.asarray(one) for one in pairs]


class Reference:
  """Keeps the mean of the last batches, and aligns guesses; `counts` of labels."""

  def __init__(self, counts):
    self.labelled = [n / sum(counts) for n in counts]
    self.window = plain.Window(WINDOW)

  def guess(self, outputs):
    q = [fake.softmax(row) for row in outputs["unlabelled.weak/vote"]["logits"]]
    seen = self.window.see(q)
    even = [plain.aligned(p, self.labelled, seen) for p in q]
    return [plain.sharpened(p, TEMPERATURE) for p in even]


def losses(outputs, mixed, label, guess, partner, share):
  """(labelled, unlabelled, anchor) losses, the last two without their weights."""
  targets = plain.mixture([*label, *guess * 3], partner, share)
  error = [fake.cross_entropy(*pair) for pair in zip(mixed, targets, strict=True)]
  pairs = zip(outputs["unlabelled.strong"]["logits"], guess, strict=True)
  anchor = [fake.cross_entropy(*pair) for pair in pairs]
  return sum(error[:B]) / B, sum(error[B:]) / (3 * U), sum(anchor) / U


STEPS = ((0.0, 2.0), (0.1, 0.0), (0.2, 9.0), (0.25, 0.3), (0.6, 40.0), (1.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("mix", "classes"), [("pooled", 2), ("pooled", 5), ("hidden", 5)]
)
def test_equals_the_equations(mix, classes):
  random = np.random.default_rng(classes)
  method, take = stepping(mix)
  assert method.needs.layout == ("padded" if mix == "hidden" else "")
  counts = tuple(range(3, 3 + classes))
  state = method.init(Sizes(classes, sum(counts), U, B, U, labelled_counts=counts))
  reference = Reference(counts)
  for step, (progress, spread) in enumerate(STEPS):
    outputs = speech(random, classes, spread)
    # A class nobody predicts.
    outputs["unlabelled.weak/vote"]["logits"][:, 0] -= 9 * (step in (0, 2))
    label = fake.random_labels(random, B, classes)
    label[:, 0] *= step != 2  # nor is it among the labels: then a label is missing
    label[label.sum(1) == 0, -1] = 1
    result = take(state, outputs, label, np.arange(U), step, progress, step)
    state = result.state

    guess, (partner, share) = reference.guess(outputs), draws(step)
    np.testing.assert_allclose(result.assigned.target, guess, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(result.assigned.weight, np.ones(U))
    np.testing.assert_allclose(state.labelled, reference.labelled, rtol=1e-6)
    seen = plain.mean(reference.window.means)
    np.testing.assert_allclose(alignment.window_mean(state.model), seen, rtol=1e-5)
    ramp = min(progress / RAMP, 1.0)
    depths = range(13) if mix == "hidden" else [None]
    fits = 0
    for layer in depths:
      mixed = plain.mixed_logits(outputs, VIEWS, partner, share, layer)
      own, rest, anchor = losses(outputs, mixed, label, guess, partner, share)
      fits += result.totals == pytest.approx(
        {
          "labelled": own,
          "unlabelled": SCALE * ramp * rest,
          "anchor": ANCHOR * ramp * anchor,
        },
        rel=1e-5,
      )
    assert fits == 1


def test_mixed_features_have_a_gradient_and_guesses_have_none():
  """Published code for text takes the features from the pass without gradient."""
  random = np.random.default_rng(0)
  outputs, label = speech(random, 5), fake.random_labels(random, B, 5)
  method, take = stepping("pooled")
  state = method.init(Sizes(5, B, U, B, U))
  result = take(state, outputs, label, np.arange(U), 7, 0.125)
  guess, (partner, share) = Reference([1] * 5).guess(outputs), draws(7)

  def total(view, features):
    changed = outputs | {view: outputs[view] | {"features": features}}
    mixed = plain.mixed_logits(changed, VIEWS, partner, share)
    own, rest, anchor = losses(changed, mixed, label, guess, partner, share)
    return own + 0.5 * (SCALE * rest + ANCHOR * anchor)

  for view in VIEWS:
    found = result.gradient[view]["features"]
    for place in ((0, 0), (1, 2), (4, 3)):
      here = functools.partial(total, view)
      slope = plain.slope(here, outputs[view]["features"], place)
      assert found[place] == pytest.approx(slope, rel=1e-3, abs=1e-6)
    assert np.abs(found).max() > 1e-3
  # The anchor teaches the first strong view; all else learns by its features.
  for b in range(U):
    p = np.array(fake.softmax(outputs["unlabelled.strong"]["logits"][b]))
    found = result.gradient["unlabelled.strong"]["logits"][b]
    np.testing.assert_allclose(found, 0.5 * ANCHOR * (p - guess[b]) / U, atol=1e-6)
  for name in (*VIEWS, "unlabelled.weak/vote"):
    if name != "unlabelled.strong":
      assert not np.any(result.gradient[name]["logits"])


def test_guesses_are_aligned_to_the_class_frequency_of_all_labels():
  """If all predictions are the same, they become the class frequency."""
  random = np.random.default_rng(0)
  method, take = stepping("pooled")
  state = method.init(Sizes(5, 20, U, B, U, labelled_counts=(4, 8, 8, 0, 0)))
  for step in range(3):
    outputs = speech(random, 5)
    outputs["unlabelled.weak/vote"]["logits"] = np.array([[2.0, 0, 0, 1, 0]] * U)
    result = take(state, outputs, np.eye(5)[[0, 0, 0, 0, 3]], np.arange(U), step)
    state = result.state
  expected = plain.sharpened([0.2, 0.4, 0.4, 0, 0], TEMPERATURE)
  np.testing.assert_allclose(result.assigned.target, [expected] * U, atol=1e-4)


@pytest.mark.slow
def test_predictions_with_the_class_frequency_are_unchanged():
  """An exponential mean from the untrained model on would scale them once more."""
  random = np.random.default_rng(0)
  method = remixmatch.make(window=4)
  take = fake.stepper(method)
  counts = (18, 2)
  state = method.init(Sizes(2, 20, U, B, U, labelled_counts=counts))
  for step in range(6):
    outputs = speech(random, 2)
    trained = np.log(counts) if step > 1 else np.zeros(2)
    outputs["unlabelled.weak/vote"]["logits"] = np.array([trained] * U)
    result = take(state, outputs, np.eye(2)[[0, 0, 0, 0, 1]], np.arange(U), step)
    state = result.state
  expected = plain.sharpened([0.9, 0.1], 0.5)
  np.testing.assert_allclose(result.assigned.target, [expected] * U, atol=1e-4)

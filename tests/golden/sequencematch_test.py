"""SequenceMatch against its three divergences, in plain Python over dictionaries."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import sequencematch
from tests.golden import fake, plain

B, U, N = 4, 12, 30
THRESHOLD, SCALE = 0.8, 0.7


def speech(random, classes, spread=2.0):
  names = ["labelled.weak", *(f"unlabelled.{v}" for v in ("weak", "medium", "strong"))]
  rows = [B, U, U, U]
  return {
    name: {"logits": fake.random_logits(random, n, classes, spread=spread)}
    for name, n in zip(names, rows, strict=True)
  }


def divergences(weak, medium, strong, temperature):
  """The divergences of the stronger views from the weak and from the medium view."""
  s_weak = plain.sharpened(fake.softmax(weak), temperature)
  s_medium = plain.sharpened(fake.softmax(medium), temperature)
  of_weak = plain.divergence(s_weak, medium) + plain.divergence(s_weak, strong)
  return of_weak, plain.divergence(s_medium, strong)


def sure(row):
  """The mask of a view that teaches stronger ones."""
  top = max(fake.softmax(row))
  assert abs(top - THRESHOLD) > 1e-6
  return float(top >= THRESHOLD)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize(
  "masks", ["pairs", pytest.param("weak", marks=pytest.mark.slow)]
)
def test_equals_the_equations(classes, warmup, temperature, masks):
  random = np.random.default_rng(classes)
  method = sequencematch.make(
    THRESHOLD, temperature, SCALE, warmup, warmup_ends=1.0, masks=masks
  )
  take = fake.stepper(method)
  state = method.init(Sizes(classes, B, N, B, U))
  learned = plain.Learned(classes, N, THRESHOLD, warmup)
  shares, masked = [], set()
  for step in range(12):
    # Nobody is sure in the first step: all levels are 0, and all texts pass.
    outputs = speech(random, classes, spread=[0.1, 2.0, 0.3, 4.0][step % 4])
    weak = outputs["unlabelled.weak"]["logits"]
    weak[:, 0] -= 9 * (step % 5 == 2)  # a class nobody predicts
    weak[:, -1] += 90 * (step == 9)  # all are sure
    label = fake.random_labels(random, B, classes)
    index = random.permutation(N)[:U]
    result = take(state, outputs, label, index, step, step / 12, step // 3)
    state = result.state

    levels = [learned.level(c) for c in range(classes)]
    hard = soft = 0
    for b, u in enumerate(index):
      q = fake.softmax(weak[b])
      c = fake.argmax(q)
      passes = float(max(q) >= levels[c])
      target = fake.one_hot(c, classes)
      views = [outputs[f"unlabelled.{v}"]["logits"][b] for v in ("weak", "medium")]
      strong = outputs["unlabelled.strong"]["logits"][b]
      hard += passes * fake.cross_entropy(strong, target)
      of_pairs = [sure(row) for row in views]
      masked.add((passes, *of_pairs))
      weights = of_pairs if masks == "pairs" else [passes, passes]
      soft += plain.dot(weights, divergences(*views, strong, temperature))
      np.testing.assert_array_equal(result.assigned.target[b], target)
      assert result.assigned.weight[b] == passes
      learned.remember(u, q)
    shares.append(float(np.mean(result.assigned.weight)))
    known = outputs["labelled.weak"]["logits"]
    assert result.totals == pytest.approx(
      {
        "labelled": fake.mean_cross_entropy(known, label),
        "unlabelled": SCALE * hard / U,
        "divergence": SCALE * soft / U,
      },
      rel=1e-5,
      abs=5e-7,  # a divergence is a difference of float32 logarithms of order 1
    )
    np.testing.assert_array_equal(state.label, learned.labels())
    np.testing.assert_array_equal(state.count, learned.counts())
  assert shares[0] == shares[9] == 1 > min(shares)
  # FlexMatch's mask tells nothing about those of the pairs.
  assert {mask for mask in masked if mask[0]} >= {(1, 0, 0), (1, 0, 1), (1, 1, 0)}


def test_texts_below_their_threshold_are_not_used():
  method = sequencematch.make()
  take = fake.stepper(method)
  state = method.init(Sizes(2, 1, 4, 1, 4))
  outputs = {
    "labelled.weak": {"logits": np.zeros((1, 2))},
    "unlabelled.weak": {"logits": np.array([[20.0, 0.0]] * 4)},
    "unlabelled.medium": {"logits": np.array([[0.0, 1.0]] * 4)},
    "unlabelled.strong": {"logits": np.array([[0.0, 2.0]] * 4)},
  }
  state = take(state, outputs, np.eye(2)[:1], range(4)).state
  outputs["unlabelled.weak"]["logits"] /= 40
  result = take(state, outputs, np.eye(2)[:1], range(4), 1)
  assert result.totals["unlabelled"] == result.totals["divergence"] == 0
  np.testing.assert_array_equal(result.assigned.weight, np.zeros(4))


@pytest.mark.parametrize("masks", ["pairs", "weak"])
def test_each_view_moves_towards_the_weaker_ones_which_have_no_gradient(masks):
  random = np.random.default_rng(0)
  outputs = speech(random, 3)
  method = sequencematch.make(THRESHOLD, 0.5, SCALE, masks=masks)
  take = fake.stepper(method)
  state = method.init(Sizes(3, B, N, B, U))
  label = fake.random_labels(random, B, 3)
  state = take(state, speech(random, 3, 90.0), label, np.arange(N)[-U:]).state
  state = take(state, speech(random, 3, 90.0), label, np.arange(U)).state
  result = take(state, outputs, label, np.arange(U), 1)
  assert 0 < np.sum(result.assigned.weight) < U
  for b in range(U):
    weak, medium, strong = (
      np.array(fake.softmax(outputs[f"unlabelled.{v}"]["logits"][b]))
      for v in ("weak", "medium", "strong")
    )
    s_weak, s_medium = (np.array(plain.sharpened(p, 0.5)) for p in (weak, medium))
    hard = fake.one_hot(fake.argmax(weak), 3)
    passes = float(result.assigned.weight[b])
    m_weak = m_medium = passes
    if masks == "pairs":
      m_weak, m_medium = (
        sure(outputs[f"unlabelled.{v}"]["logits"][b]) for v in ("weak", "medium")
      )
    for view, pull in (
      ("weak", 0 * weak),
      ("medium", m_weak * (medium - s_weak)),
      (
        "strong",
        passes * (strong - hard)
        + m_weak * (strong - s_weak)
        + m_medium * (strong - s_medium),
      ),
    ):
      found = result.gradient[f"unlabelled.{view}"]["logits"][b]
      np.testing.assert_allclose(found, SCALE * pull / U, atol=1e-6)


def test_targets_are_sharpened_not_flattened():
  """Published code applies a softmax to the probabilities: 0.88 at most for T = 0.5."""
  views = {"weak": 9.0, "medium": 18.0, "strong": 36.0}  # each the one before, sharp
  outputs = {
    f"unlabelled.{v}": {"logits": np.array([[z, 0]])} for v, z in views.items()
  }
  outputs["labelled.weak"] = {"logits": np.zeros((1, 2))}
  method = sequencematch.make(temperature=0.5)
  totals = fake.stepper(method)(
    method.init(Sizes(2, 1, 1, 1, 1)), outputs, np.eye(2)[:1], [0]
  ).totals
  assert totals["divergence"] == pytest.approx(0, abs=1e-5)

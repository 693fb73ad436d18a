"""CRMatch against arXiv 2112.05825 without its rotations, in plain NumPy."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import crmatch
from tests.golden import fake, plain

B, U, WIDTH = 6, 16, 4
THRESHOLD, SCALE, DISTANCE = 0.8, 0.7, 0.6


def speech(random, classes, spread=2.0):
  # A sixteenth more to each next class: no tie, so that all can be sure.
  rise = np.arange(classes) / 16
  weak = fake.random_logits(random, U, classes, spread=spread) + rise
  return {
    "labelled.weak": {"logits": fake.random_logits(random, B, classes)},
    "unlabelled.weak": {"logits": weak, "distance": random.normal(size=(U, WIDTH))},
    "unlabelled.strong": {
      "logits": fake.random_logits(random, U, classes),
      "distance": random.normal(size=(U, WIDTH)),
    },
  }


def nearness(a, b):
  """max(0, cosine)."""
  return max(0.0, plain.dot(a, b) / np.sqrt(plain.dot(a, a) * plain.dot(b, b)))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
  ("spread", "least", "most"), [(0.1, 0, 0), (2.0, 1, U - 1), (4e3, U, U)]
)
def test_equals_the_equations(classes, spread, least, most):
  random = np.random.default_rng(classes)
  method = crmatch.make(THRESHOLD, SCALE, DISTANCE, WIDTH)
  assert method.needs.heads["distance"].width == WIDTH
  take = fake.stepper(method)
  state = method.init(Sizes(classes, B, U, B, U))
  for step in range(3):
    outputs = speech(random, classes, spread)
    weak, strong = outputs["unlabelled.weak"], outputs["unlabelled.strong"]
    weak["logits"][:, -1] -= 9 * (step == 1)  # a class nobody predicts
    label = fake.random_labels(random, B, classes)
    result = take(state, outputs, label, np.arange(U), step, step / 3, step)
    state = result.state

    taught = plain.FixMatch(THRESHOLD).step(weak["logits"])
    selected = sum(confident for _, confident in taught)
    pairs = zip(strong["distance"], weak["distance"], strict=True)
    similarity = [
      confident * nearness(*pair)
      for pair, (_, confident) in zip(pairs, taught, strict=True)
    ]
    taught = [(fake.one_hot(c, classes), confident) for c, confident in taught]
    plain.check_consistency(
      result, outputs, label, taught, distance=DISTANCE * sum(similarity) / U
    )
    if step != 1:
      assert least <= selected <= most


def test_strong_features_of_confident_texts_move_away_from_weak_ones():
  random = np.random.default_rng(1)
  outputs = speech(random, 3, 4.0)
  take = fake.stepper(crmatch.make(THRESHOLD, SCALE, DISTANCE, WIDTH))
  result = take((), outputs, fake.random_labels(random, B, 3), np.arange(U))
  kinds = set()
  for b in range(U):
    weak, strong = (
      outputs[f"unlabelled.{v}"]["distance"][b] for v in ("weak", "strong")
    )
    confident = float(result.assigned.weight[b])
    kinds.add((confident, nearness(strong, weak) > 0))
    for d in range(WIDTH):
      slope = plain.slope(lambda values, w=weak: nearness(values, w), strong, d)
      found = result.gradient["unlabelled.strong"]["distance"][b, d]
      assert found == pytest.approx(DISTANCE * confident * slope / U, abs=1e-5)
  assert len(kinds) == 4
  assert not np.any(result.gradient["unlabelled.weak"]["distance"])


def test_features_of_norm_0_have_a_finite_gradient():
  outputs = speech(np.random.default_rng(0), 3)
  for view in ("weak", "strong"):
    outputs[f"unlabelled.{view}"]["distance"][:2] = 0
  result = fake.stepper(crmatch.make(0.0))((), outputs, np.eye(3)[[0] * B], range(U))
  assert np.isfinite(result.totals["distance"])
  assert np.isfinite(result.gradient["unlabelled.strong"]["distance"]).all()

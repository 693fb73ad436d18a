"""ReFixMatch against arXiv 2308.07509, in plain NumPy."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import refixmatch
from tests.golden import fake, plain

B, U = 6, 20
THRESHOLD, SCALE = 0.8, 0.7


def speech(random, classes, spread=2.0):
  # A sixteenth more to each next class: no tie, so that all can be sure.
  rise = np.arange(classes) / 16
  said = {
    "labelled.weak": fake.logits(random, B, classes),
    "unlabelled.weak": fake.logits(random, U, classes, spread=spread) + rise,
    "unlabelled.strong": fake.logits(random, U, classes),
  }
  return {name: {"logits": logits} for name, logits in said.items()}


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize(
  ("spread", "least", "most"), [(0.1, 0, 0), (2.0, 1, U - 1), (400.0, U, U)]
)
def test_equals_the_equations(classes, temperature, spread, least, most):
  random = np.random.default_rng(classes)
  method = refixmatch.make(THRESHOLD, temperature, SCALE)
  take = fake.stepper(method)
  state = method.init(Sizes(classes, B, U, B, U))
  for step in range(3):
    said = speech(random, classes, spread)
    said["unlabelled.weak"]["logits"][:, -1] -= 9 * (step == 1)  # nobody's class
    label = fake.labels(random, B, classes)
    result = take(state, said, label, np.arange(U), step, step / 3, step)
    state = result.state

    x, weak, strong = (view["logits"] for view in said.values())
    hard = soft = selected = 0
    for b in range(U):
      q = fake.softmax(weak[b])
      target, sure = fake.one_hot(fake.first_largest(q), classes), max(q) >= THRESHOLD
      selected += sure
      np.testing.assert_array_equal(result.assigned.target[b], target)
      assert result.assigned.weight[b] == sure
      if sure:
        hard += fake.surprise(strong[b], target)
      else:
        soft += plain.divergence(plain.sharpened(q, temperature), strong[b])
    pairs = zip(x, label, strict=True)
    assert result.totals == pytest.approx(
      {
        "labelled": sum(fake.surprise(*pair) for pair in pairs) / B,
        "unlabelled": SCALE * hard / U,
        "divergence": SCALE * soft / U,
      },
      rel=1e-5,
    )
    if step != 1:
      assert least <= selected <= most


def test_the_unsure_texts_have_the_divergence_and_the_sure_ones_do_not():
  random = np.random.default_rng(0)
  said = speech(random, 3)
  take = fake.stepper(refixmatch.make(THRESHOLD, 0.5, SCALE))
  result = take((), said, fake.labels(random, B, 3), np.arange(U))
  for b in range(U):
    q = fake.softmax(said["unlabelled.weak"]["logits"][b])
    p = np.array(fake.softmax(said["unlabelled.strong"]["logits"][b]))
    sure = max(q) >= THRESHOLD
    target = fake.one_hot(fake.first_largest(q), 3) if sure else plain.sharpened(q, 0.5)
    found = result.gradient["unlabelled.strong"]["logits"][b]
    np.testing.assert_allclose(found, SCALE * (p - target) / U, atol=1e-6)
  assert not np.any(result.gradient["unlabelled.weak"]["logits"])


def test_the_target_is_sharpened_once():
  """Published code takes a softmax of the probabilities: flat, whatever they are."""
  weak = np.log([[0.7, 0.2, 0.1]])
  sharp = np.log([plain.sharpened([0.7, 0.2, 0.1], 0.5)])
  said = {
    "labelled.weak": {"logits": np.zeros((1, 3))},
    "unlabelled.weak": {"logits": weak},
    "unlabelled.strong": {"logits": sharp},
  }
  take = fake.stepper(refixmatch.make(temperature=0.5))
  totals = take((), said, np.eye(3)[:1], [0]).totals
  assert totals["divergence"] == pytest.approx(0, abs=1e-6)

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
  outputs = {
    "labelled.weak": fake.random_logits(random, B, classes),
    "unlabelled.weak": fake.random_logits(random, U, classes, spread=spread) + rise,
    "unlabelled.strong": fake.random_logits(random, U, classes),
  }
  return {name: {"logits": logits} for name, logits in outputs.items()}


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
    outputs = speech(random, classes, spread)
    outputs["unlabelled.weak"]["logits"][:, -1] -= 9 * (step == 1)  # nobody's class
    label = fake.random_labels(random, B, classes)
    result = take(state, outputs, label, np.arange(U), step, step / 3, step)
    state = result.state

    x, weak, strong = (view["logits"] for view in outputs.values())
    hard = soft = selected = 0
    for b in range(U):
      q = fake.softmax(weak[b])
      target, confident = fake.one_hot(fake.argmax(q), classes), max(q) >= THRESHOLD
      selected += confident
      np.testing.assert_array_equal(result.assigned.target[b], target)
      assert result.assigned.weight[b] == confident
      if confident:
        hard += fake.cross_entropy(strong[b], target)
      else:
        soft += plain.divergence(plain.sharpened(q, temperature), strong[b])
    assert result.totals == pytest.approx(
      {
        "labelled": fake.mean_cross_entropy(x, label),
        "unlabelled": SCALE * hard / U,
        "divergence": SCALE * soft / U,
      },
      rel=1e-5,
    )
    if step != 1:
      assert least <= selected <= most


def test_only_unsure_texts_have_the_divergence():
  random = np.random.default_rng(0)
  outputs = speech(random, 3)
  take = fake.stepper(refixmatch.make(THRESHOLD, 0.5, SCALE))
  result = take((), outputs, fake.random_labels(random, B, 3), np.arange(U))
  for b in range(U):
    q = fake.softmax(outputs["unlabelled.weak"]["logits"][b])
    p = np.array(fake.softmax(outputs["unlabelled.strong"]["logits"][b]))
    confident = max(q) >= THRESHOLD
    target = fake.one_hot(fake.argmax(q), 3) if confident else plain.sharpened(q, 0.5)
    found = result.gradient["unlabelled.strong"]["logits"][b]
    np.testing.assert_allclose(found, SCALE * (p - target) / U, atol=1e-6)
  assert not np.any(result.gradient["unlabelled.weak"]["logits"])


def test_the_target_is_sharpened_once():
  """Published code applies a softmax to the probabilities, which is always flat."""
  weak = np.log([[0.7, 0.2, 0.1]])
  sharp = np.log([plain.sharpened([0.7, 0.2, 0.1], 0.5)])
  outputs = {
    "labelled.weak": {"logits": np.zeros((1, 3))},
    "unlabelled.weak": {"logits": weak},
    "unlabelled.strong": {"logits": sharp},
  }
  take = fake.stepper(refixmatch.make(temperature=0.5))
  totals = take((), outputs, np.eye(3)[:1], [0]).totals
  assert totals["divergence"] == pytest.approx(0, abs=1e-6)

"""DeFixMatch against arXiv 2203.07512, in plain NumPy."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import defixmatch
from tests.golden import fake

B, U = 6, 20
THRESHOLD, SCALE = 0.8, 0.7


def votes(weak):
  """(label, 1 if it is confident) for each text."""
  q = [fake.softmax(row) for row in weak]
  return [(fake.argmax(p), float(max(p) >= THRESHOLD)) for p in q]


def fixmatch(weak, strong):
  """The mean of FixMatch's term; `weak` is from the pass without gradient."""
  pairs = zip(votes(weak), strong, strict=True)
  losses = [m * fake.cross_entropy(z, fake.one_hot(c, len(z))) for (c, m), z in pairs]
  return sum(losses) / len(losses)


def speech(random, classes, spread):
  # A sixteenth more to each next class: no tie, so that all can be sure.
  rise = np.arange(classes) / 16
  outputs = {
    "labelled.weak": fake.random_logits(random, B, classes),
    "labelled.weak/vote": fake.random_logits(random, B, classes, spread=spread) + rise,
    "labelled.strong": fake.random_logits(random, B, classes),
    "unlabelled.weak": fake.random_logits(random, U, classes, spread=spread) + rise,
    "unlabelled.strong": fake.random_logits(random, U, classes),
  }
  return {name: {"logits": logits} for name, logits in outputs.items()}


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
  ("spread", "least", "most"), [(0.1, 0, 0), (2.0, 1, U + B - 1), (4e3, U + B, U + B)]
)
def test_equals_the_equations(classes, spread, least, most):
  random = np.random.default_rng(classes)
  method = defixmatch.make(threshold=THRESHOLD, scale=SCALE)
  assert method.needs.labelled_views == ("weak", "strong")
  take = fake.stepper(method)
  state = method.init(Sizes(classes, B, U, B, U))
  for step in range(3):
    outputs = speech(random, classes, spread)
    for name in ("labelled.weak/vote", "unlabelled.weak"):
      outputs[name]["logits"][:, -1] -= 9 * (step == 1)  # a class nobody predicts
    label = fake.random_labels(random, B, classes)
    result = take(state, outputs, label, np.arange(U), step, step / 3, step)
    state = result.state

    x, vote, x_strong, u, u_strong = (view["logits"] for view in outputs.values())
    own = [
      (fake.cross_entropy(x[b], label[b]) + fake.cross_entropy(x_strong[b], label[b]))
      / 2
      for b in range(B)
    ]
    assert result.totals == pytest.approx(
      {
        "labelled": sum(own) / B,
        "unlabelled": SCALE * fixmatch(u, u_strong),
        "control": -SCALE * fixmatch(vote, x_strong),
      },
      rel=1e-5,
    )
    for b, (c, sure) in enumerate(votes(u)):
      np.testing.assert_array_equal(result.assigned.target[b], fake.one_hot(c, classes))
      assert result.assigned.weight[b] == sure
    if step != 1:
      assert least <= sum(sure for _, sure in votes(u) + votes(vote)) <= most


def test_both_labelled_views_are_trained_and_the_control_is_strong():
  """Published code for text has no strong labelled view, and so no control."""
  random = np.random.default_rng(0)
  outputs = speech(random, 3, 2.0)
  label = fake.random_labels(random, B, 3)
  take = fake.stepper(defixmatch.make(threshold=THRESHOLD, scale=SCALE))
  gradient = take((), outputs, label, np.arange(U)).gradient
  weak, vote, strong = (
    outputs[f"labelled.{v}"]["logits"] for v in ("weak", "weak/vote", "strong")
  )
  for b, (c, sure) in enumerate(votes(vote)):
    p = np.array(fake.softmax(strong[b]))
    pull = (p - label[b]) / 2 - SCALE * sure * (p - fake.one_hot(c, 3))
    found = gradient["labelled.strong"]["logits"][b]
    np.testing.assert_allclose(found, pull / B, atol=1e-6)
    pull = (np.array(fake.softmax(weak[b])) - label[b]) / 2  # its vote has none
    found = gradient["labelled.weak"]["logits"][b]
    np.testing.assert_allclose(found, pull / B, atol=1e-6)
  assert 0 < sum(sure for _, sure in votes(vote)) < B
  assert not np.any(gradient["unlabelled.weak"]["logits"])


def test_with_labelled_texts_as_unlabelled_ones_it_is_supervised():
  random = np.random.default_rng(0)
  outputs = speech(random, 3, 4.0)
  outputs["unlabelled.weak"] = outputs["labelled.weak/vote"]
  outputs["unlabelled.strong"] = outputs["labelled.strong"]
  take = fake.stepper(defixmatch.make(threshold=THRESHOLD, scale=SCALE))
  totals = take((), outputs, fake.random_labels(random, B, 3), np.arange(B)).totals
  assert totals["unlabelled"] > 0
  assert totals["unlabelled"] + totals["control"] == pytest.approx(0, abs=1e-6)

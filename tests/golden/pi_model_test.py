"""Pi-Model against the loss of arXiv 1610.02242, in plain Python."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import pi_model
from tests.golden import fake

U = 24


@pytest.mark.parametrize("classes", [2, 5])
def test_equals_the_equation(classes):
  random = np.random.default_rng(classes)
  method = pi_model.make(scale=3.0, ramp=0.4)
  take = fake.stepper(method)
  state = method.init(Sizes(classes, 6, U, 6, U))
  ramps = [(0.0, 0.0), (0.1, 0.25), (0.2, 0.5), (0.4, 1.0), (0.9, 1.0)]
  for step, (progress, ramp) in enumerate(ramps):
    outputs = fake.random_outputs(
      random, classes, spread=[2.0, 2.0, 0.1, 2.0, 4000.0][step]
    )
    weak, strong = (outputs[f"unlabelled.{v}"]["logits"] for v in ("weak", "strong"))
    weak[:, -1] -= 9 * (step == 3)  # a class nobody predicts
    label = fake.random_labels(random, 6, classes)
    result = take(state, outputs, label, np.arange(U), step, progress)
    state = result.state

    loss, slopes = 0.0, np.zeros((U, classes))
    for u in range(U):
      p, q = fake.softmax(strong[u]), fake.softmax(weak[u])
      for c in range(classes):
        loss += classes / 2 * (p[c] - q[c]) ** 2
        for k in range(classes):
          moves = p[c] * ((c == k) - p[k])  # d p_c / d z_k
          slopes[u, k] += classes * (p[c] - q[c]) * moves
      np.testing.assert_allclose(result.assigned.target[u], q, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(result.assigned.weight, np.ones(U))
    assert result.totals == pytest.approx(
      {
        "labelled": fake.mean_cross_entropy(outputs["labelled.weak"]["logits"], label),
        "unlabelled": 3.0 * ramp * loss / U,
      },
      rel=1e-5,
    )
    np.testing.assert_allclose(
      result.gradient["unlabelled.strong"]["logits"],
      3.0 * ramp * slopes / U,
      rtol=1e-3,
      atol=1e-7,
    )
    # The first look is a target, and no teacher is asked.
    assert not np.any(result.gradient["unlabelled.weak"]["logits"])
    assert not np.any(result.gradient["teacher.weak"]["logits"])


def test_the_loss_is_0_if_the_passes_agree():
  outputs = fake.random_outputs(np.random.default_rng(0), 3)
  outputs["unlabelled.strong"] = outputs["unlabelled.weak"]
  label = fake.random_labels(np.random.default_rng(0), 6, 3)
  result = fake.stepper(pi_model.make())((), outputs, label, np.arange(U), progress=1.0)
  assert result.totals["unlabelled"] == pytest.approx(0, abs=1e-12)


def test_without_a_ramp_the_first_step_has_the_full_weight():
  outputs = fake.random_outputs(np.random.default_rng(0), 3)
  label = fake.random_labels(np.random.default_rng(0), 6, 3)
  first, last = (
    fake.stepper(pi_model.make(ramp=ramp))(
      (), outputs, label, np.arange(U), 0, progress
    )
    for ramp, progress in [(0.0, 0.0), (0.4, 1.0)]
  )
  assert first.totals == pytest.approx(last.totals)
  assert first.totals["unlabelled"] > 0

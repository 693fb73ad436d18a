"""Pi-Model (arXiv 1610.02242) and Mean Teacher (1703.01780) against their loss.

In plain Python. They differ in who predicts the target: the model or its average.
"""

import numpy as np
import pytest

from configs import mean_teacher as config
from ssljax.method import Sizes
from ssljax.methods import mean_teacher, pi_model
from tests.golden import fake

U = 24
# The method, the pass that gives the target, and passes that must not be read.
PI_MODEL = (pi_model, "unlabelled.weak", "teacher.weak")
MEAN_TEACHER = (mean_teacher, "teacher.weak", "unlabelled.weak")
both = pytest.mark.parametrize(
  ("module", "target", "unread"), [PI_MODEL, MEAN_TEACHER], ids=["pi", "mean_teacher"]
)


def scene():
  """(outputs, label) with three classes."""
  random = np.random.default_rng(0)
  return fake.random_outputs(random, 3), fake.random_labels(random, 6, 3)


@pytest.mark.parametrize("classes", [2, 5])
@both
def test_equals_the_equation(module, target, unread, classes):
  random = np.random.default_rng(classes)
  method = module.make(scale=3.0, ramp=0.4)
  take = fake.stepper(method)
  state = method.init(Sizes(classes, 6, U, 6, U))
  ramps = [(0.0, 0.0), (0.1, 0.25), (0.2, 0.5), (0.4, 1.0), (0.9, 1.0)]
  for step, (progress, ramp) in enumerate(ramps):
    outputs = fake.random_outputs(
      random, classes, spread=[2.0, 2.0, 0.1, 2.0, 4000.0][step]
    )
    teacher, student = outputs[target]["logits"], outputs["unlabelled.strong"]["logits"]
    teacher[:, -1] -= 9 * (step == 3)  # a class nobody predicts
    label = fake.random_labels(random, 6, classes)
    result = take(state, outputs, label, np.arange(U), step, progress)
    state = result.state

    loss, slopes = 0.0, np.zeros((U, classes))
    for u in range(U):
      p, q = fake.softmax(student[u]), fake.softmax(teacher[u])
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
    assert not np.any(result.gradient[target]["logits"])
    assert not np.any(result.gradient[unread]["logits"])


@both
def test_the_target_is_read_from_one_pass(module, target, unread):
  outputs, label = scene()
  take = fake.stepper(module.make())
  run = lambda outputs: take((), outputs, label, np.arange(U), progress=1.0)
  result = run(outputs)
  assert result.totals["unlabelled"] > 0
  assert np.all(np.any(result.gradient["unlabelled.strong"]["logits"], axis=1))
  other = outputs | {unread: outputs["unlabelled.strong"]}
  assert run(other).totals == result.totals
  # The loss is 0 if the two passes agree.
  agreed = outputs | {"unlabelled.strong": outputs[target]}
  assert run(agreed).totals["unlabelled"] == pytest.approx(0, abs=1e-12)


def test_without_a_ramp_the_first_step_has_the_full_weight():
  outputs, label = scene()
  first, last = (
    fake.stepper(pi_model.make(ramp=ramp))(
      (), outputs, label, np.arange(U), 0, progress
    )
    for ramp, progress in [(0.0, 0.0), (0.4, 1.0)]
  )
  assert first.totals == pytest.approx(last.totals)
  assert first.totals["unlabelled"] > 0


def test_the_teacher_is_the_average_not_the_student():
  assert mean_teacher.make().needs.teacher
  assert config.get_config().ema == 0.99

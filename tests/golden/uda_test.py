"""UDA against the equations of arXiv 1904.12848, in plain Python."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import uda
from tests.golden import fake, plain

U, B = 24, 8
SCHEDULES = {
  "linear": lambda t: t,
  "exp": lambda t: np.exp((t - 1) * 5),
  "log": lambda t: 1 - np.exp(-t * 5),
  "off": lambda t: 1.0,
}


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("annealing", SCHEDULES)
def test_equals_the_equations(classes, annealing):
  random = np.random.default_rng(classes)
  method = uda.make(threshold=0.8, temperature=0.4, scale=0.7, annealing=annealing)
  take = fake.stepper(method)
  state = method.init(Sizes(classes, 12, U, B, U))
  selected, kept = [], []
  for step, progress in enumerate([0.0, 0.1, 0.3, 0.6, 0.8, 0.97]):
    outputs = fake.random_outputs(
      random, classes, B, U, spread=[2.0, 0.1, 4000.0][step % 3]
    )
    known = outputs["labelled.weak"]["logits"]
    known[:] = fake.random_logits(random, B, classes)
    weak, strong = (outputs[f"unlabelled.{v}"]["logits"] for v in ("weak", "strong"))
    strong[:] = fake.random_logits(random, U, classes)
    weak += np.arange(classes) / 16  # no tie, so that all can be sure
    weak[:, -1] -= 9 * (step == 3)  # a class nobody predicts
    label = fake.random_labels(random, B, classes)
    known += 9 * label * (step == 4)  # all are known: nothing is left but at the end
    result = take(state, outputs, label, np.arange(U), step, progress)
    state = result.state

    eta = SCHEDULES[annealing](progress) * (1 - 1 / classes) + 1 / classes
    stays = []
    for b in range(B):
      right = fake.softmax(known[b])[list(label[b]).index(1)]
      assert abs(right - eta) > 1e-6 or right == 1 / classes
      stays.append(right <= eta or annealing == "off")
    supervised = [
      fake.cross_entropy(known[b], label[b]) if stays[b] else 0.0 for b in range(B)
    ]
    taught = []
    for row in weak:
      q = fake.softmax(row)
      taught.append((plain.sharpened(q, 0.4), float(max(q) >= 0.8)))
    labelled = sum(supervised) / max(sum(stays), 1)
    plain.check_consistency(
      result,
      outputs,
      label,
      taught,
      target_rtol=1e-5,
      abs=1e-7,  # of losses that are almost 1
      labelled=labelled,
    )
    selected.append(int(sum(result.assigned.weight)))
    kept.append(sum(stays))
    for b in range(B):
      expected = np.array(fake.ce_gradient(known[b], label[b])) / max(sum(stays), 1)
      np.testing.assert_allclose(
        result.gradient["labelled.weak"]["logits"][b],
        stays[b] * expected,
        rtol=1e-4,
        atol=1e-7,
      )
  assert selected[1] == 0
  assert selected[2] == U
  assert 0 < selected[0] < U
  if annealing == "off":
    assert kept == [B] * 6
  else:
    assert any(0 < count < B for count in kept)
  if annealing == "exp":
    assert kept[4] == 0


def speech(known, weak, strong):
  return {
    "labelled.weak": {"logits": np.array(known)},
    "unlabelled.weak": {"logits": np.array(weak)},
    "unlabelled.strong": {"logits": np.array(strong)},
  }


def test_predictions_are_sharpened():
  outputs = speech([[0.0, 0.0]], [[2.0, 0.0]], [[1.0, 0.0]])
  take = fake.stepper(uda.make(temperature=0.4, annealing="off"))
  result = take((), outputs, np.eye(2)[:1], [0])
  sharp = 1 / (1 + np.exp(-2.0 / 0.4))
  np.testing.assert_allclose(result.assigned.target, [[sharp, 1 - sharp]], rtol=1e-5)
  assert sharp > 1 / (1 + np.exp(-2.0)) + 0.1
  # The threshold applies to the prediction before sharpening.
  take = fake.stepper(uda.make(threshold=0.95, temperature=0.4))
  assert take((), outputs, np.eye(2)[:1], [0]).assigned.weight[0] == 0


def test_annealing_uses_the_probability_of_the_correct_class():
  # Both are sure; the first is right, the second wrong and has all to learn.
  outputs = speech([[4.0, 0.0], [4.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]])
  take = fake.stepper(uda.make(annealing="linear"))
  result = take((), outputs, np.eye(2), [0], progress=0.5)
  gradient = result.gradient["labelled.weak"]["logits"]
  assert not np.any(gradient[0])
  np.testing.assert_allclose(
    gradient[1], fake.ce_gradient([4.0, 0.0], [0, 1]), rtol=1e-5
  )
  assert result.totals["labelled"] == pytest.approx(4 + np.log(1 + np.exp(-4)))


def test_the_labelled_loss_is_0_if_annealing_drops_all_texts():
  outputs = speech([[9.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]])
  result = fake.stepper(uda.make())((), outputs, np.eye(2)[:1], [0], progress=0.5)
  assert result.totals["labelled"] == 0
  assert not np.any(result.gradient["labelled.weak"]["logits"])


def test_at_temperature_0_the_target_is_hard():
  outputs = speech([[0.0, 0.0]], [[0.5, 0.0]], [[0.0, 0.0]])
  result = fake.stepper(uda.make(temperature=0.0))((), outputs, np.eye(2)[:1], [0])
  np.testing.assert_array_equal(result.assigned.target, [[1, 0]])

"""Dash against the equations of arXiv 2109.00650, in plain Python."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import dash
from tests.golden import fake, plain

U, B = 24, 6


class Reference:
  """Keeps the labelled losses of the warm-up, and computes the threshold."""

  def __init__(self, classes, warmup, cuts, least):
    self.classes, self.warmup, self.cuts, self.least = classes, warmup, cuts, least
    self.losses = []

  def rho(self, progress):
    """The threshold, None in the warm-up."""
    if progress < self.warmup:
      return None
    k = int((progress - self.warmup) / (1 - self.warmup) * self.cuts)
    start = sum(self.losses) / len(self.losses)
    return max(1.0001 * 1.27**-k * start, self.least)

  def step(self, known, label, weak, progress):
    """(target, passes) of each text."""
    rho = self.rho(progress)
    if rho is None:
      self.losses.append(fake.mean_cross_entropy(known, label))
    found = []
    for row in weak:
      q = fake.softmax(row)
      if rho is not None and rho <= self.least:
        target = fake.one_hot(fake.argmax(q), self.classes)
      else:
        powers = [p**2 for p in q]  # T = 1/2
        target = [power / sum(powers) for power in powers]
      loss = fake.cross_entropy(row, target)
      assert rho is None or abs(loss - rho) > 1e-6  # no matter of rounding
      found.append((target, rho is not None and loss <= rho))
    return found


@pytest.mark.parametrize(("classes", "least"), [(2, 0.15), (5, 0.3)])
def test_equals_the_equations(classes, least):
  random = np.random.default_rng(classes)
  method = dash.make(scale=0.7, warmup=0.2, cuts=7, least=least)
  take = fake.stepper(method)
  state = method.init(Sizes(classes, 12, U, B, U, 20))
  reference = Reference(classes, 0.2, 7, least)
  selected, hard = {}, {}
  for step in range(20):
    progress = step / 20
    outputs = fake.random_outputs(random, classes, B, U)
    known = outputs["labelled.weak"]["logits"]
    weak = outputs["unlabelled.weak"]["logits"]
    weak[:, -1] -= 9 * (step == 6)  # a class nobody predicts
    if step == 8:  # nobody knows anything
      weak[:] = fake.random_logits(random, U, classes, spread=0.1)
    if step == 9:  # all are sure
      weak[:] = 20 * np.eye(classes)[np.arange(U) % classes]
    label = fake.random_labels(random, B, classes)
    known += label * (step < 4) * 3  # so that not everything passes
    result = take(state, outputs, label, np.arange(U), step, progress)
    state = result.state

    taught = reference.step(known, label, weak, progress)
    selected[step] = sum(passes for _, passes in taught)
    hard[step] = max(taught[0][0]) == 1.0
    if step < 4:  # no target is used, so any is right
      taught = [(target, 0.0) for target in result.assigned.target]
    plain.check_consistency(result, outputs, label, taught, target_rtol=1e-5)
    np.testing.assert_allclose(state.loss, sum(reference.losses), rtol=1e-5)
    assert state.steps == len(reference.losses)
  assert state.steps == 4
  assert [selected[step] for step in range(4)] == [0] * 4
  assert selected[8] == 0
  assert selected[9] == U
  assert any(0 < count < U for count in selected.values())
  assert not hard[4]
  assert hard[19]


@pytest.mark.parametrize("known", [0.5, 2.0])
def test_the_threshold_is_the_labelled_loss_of_the_warm_up(known):
  method = dash.make(warmup=0.5, temperature=0.0, least=0.0)
  take = fake.stepper(method)
  state = method.init(Sizes(2, 1, 2, 1, 2, 2))
  loss = np.log(1 + np.exp(-known))
  # One text a little under the threshold, one a little over it.
  weak = [[-np.log(np.exp(loss * share) - 1), 0.0] for share in (0.99, 1.01)]
  outputs = {"labelled.weak": {"logits": np.array([[known, 0.0]])}}
  outputs |= {f"unlabelled.{v}": {"logits": np.array(weak)} for v in ("weak", "strong")}
  first = take(state, outputs, np.eye(2)[:1], [0, 1], 0, 0.0)
  np.testing.assert_array_equal(first.assigned.weight, [0, 0])
  assert first.totals["unlabelled"] == 0
  # The labelled loss after the warm-up is not asked.
  outputs["labelled.weak"] = {"logits": np.array([[-9.0, 0.0]])}
  second = take(first.state, outputs, np.eye(2)[:1], [0, 1], 1, 0.5)
  np.testing.assert_array_equal(second.assigned.weight, [1, 0])


def test_without_warmup_the_first_step_is_the_warmup():
  method = dash.make(warmup=0.0)
  state = method.init(Sizes(2, 12, U, B, U, 10))
  random = np.random.default_rng(0)
  outputs, label = fake.random_outputs(random, 2), fake.random_labels(random, 6, 2)
  first = fake.stepper(method)(state, outputs, label, np.arange(U), 0, 0.0)
  assert first.state.steps == 1
  assert not np.any(first.assigned.weight)
  second = fake.stepper(method)(first.state, outputs, label, np.arange(U), 1, 0.1)
  assert second.state.steps == 1
  assert np.any(second.assigned.weight)

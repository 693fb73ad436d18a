"""FreeMatch against the equations of arXiv 2205.07246, in plain Python."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import freematch
from tests.golden import fake, plain

U, B = 24, 6


class Reference:
  """Keeps the three running averages, with plain loops."""

  def __init__(self, classes, momentum):
    self.classes, self.momentum = classes, momentum
    self.tau = 1 / classes
    self.mean = [1 / classes] * classes
    self.seen = [1 / classes] * classes

  def move(self, old, new):
    return self.momentum * old + (1 - self.momentum) * new

  def step(self, weak):
    """(label, passes) of each text, by the averages as this batch leaves them."""
    q = [fake.softmax(row) for row in weak]
    votes = [fake.argmax(row) for row in q]
    self.tau = self.move(self.tau, sum(max(row) for row in q) / len(q))
    for c in range(self.classes):
      self.mean[c] = self.move(self.mean[c], sum(row[c] for row in q) / len(q))
      self.seen[c] = self.move(self.seen[c], votes.count(c) / len(votes))
    cuts = [self.tau * mean / max(self.mean) for mean in self.mean]
    for row, c in zip(q, votes, strict=True):
      assert abs(row[c] - cuts[c]) > 1e-6  # no matter of rounding
    return [(c, row[c] >= cuts[c]) for row, c in zip(q, votes, strict=True)]

  def fairness(self, strong, taught):
    """-H(SumNorm(p~ / h~), SumNorm(p_ / h_)) over the texts that passed."""
    rows = [row for row, (_, passes) in zip(strong, taught, strict=True) if passes]
    if not rows:
      return 0.0
    p = [fake.softmax(row) for row in rows]
    votes = [fake.argmax(row) for row in p]
    mean = [sum(row[c] for row in p) / len(p) for c in range(self.classes)]
    seen = [votes.count(c) / len(votes) for c in range(self.classes)]
    of_all, of_these = sum_norm(self.mean, self.seen), sum_norm(mean, seen)
    pairs = zip(of_all, of_these, strict=True)
    return sum(a * np.log(b + 1e-12) for a, b in pairs)


def sum_norm(mean, seen):
  ratios = [m / s if s > 0 else 0.0 for m, s in zip(mean, seen, strict=True)]
  return [ratio / sum(ratios) for ratio in ratios]


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("time_constant", [0.0, 0.03])
def test_equals_the_equations(classes, time_constant):
  random = np.random.default_rng(classes)
  method = freematch.make(
    scale=0.7, fairness=0.3, momentum=0.8, time_constant=time_constant
  )
  take = fake.stepper(method)
  state = method.init(Sizes(classes, 12, U, B, U))
  reference = Reference(classes, 0.8)
  selected = []
  for step in range(8):
    sure = step == 0 and not time_constant  # otherwise the threshold would be 1
    outputs = fake.random_outputs(random, classes, B, U, spread=4000.0 if sure else 3.0)
    weak, strong = (outputs[f"unlabelled.{v}"]["logits"] for v in ("weak", "strong"))
    if sure:  # without a strong probability of 0
      strong[:] = fake.random_logits(random, U, classes)
    weak[:, -1] -= 30 * (step in (2, 3))  # a class no weak view is for,
    strong[:, 0] -= 30 * (step in (3, 4))  # and one no strong view is for
    if step == 6:  # all are for the class with the highest threshold, and unsure
      mean = reference.mean
      weak[:] = 0.25 * np.eye(classes)[mean.index(max(mean))]
    label = fake.random_labels(random, B, classes)
    result = take(state, outputs, label, np.arange(U), step)
    state = result.state

    reference.momentum = plain.kept(0.8, time_constant, step)
    taught = reference.step(weak)
    loss = 0.0
    for u, (c, passes) in enumerate(taught):
      target = fake.one_hot(c, classes)
      np.testing.assert_array_equal(result.assigned.target[u], target)
      assert result.assigned.weight[u] == passes
      loss += passes * fake.cross_entropy(strong[u], target)
    selected.append(sum(passes for _, passes in taught))
    assert result.totals == pytest.approx(
      {
        "labelled": fake.mean_cross_entropy(outputs["labelled.weak"]["logits"], label),
        "unlabelled": 0.7 * loss / U,
        "fairness": 0.3 * reference.fairness(strong, taught),
      },
      rel=1e-5,
    )
    gradient = np.array(result.gradient["unlabelled.strong"]["logits"])
    assert np.all(np.isfinite(gradient))
    passed = np.array([passes for _, passes in taught], bool)
    assert not np.any(gradient[~passed])  # fairness counts only those that passed
    assert not np.any(result.gradient["unlabelled.weak"]["logits"])
    np.testing.assert_allclose(state.confidence, reference.tau, rtol=1e-5)
    np.testing.assert_allclose(state.probability, reference.mean, rtol=1e-5)
    np.testing.assert_allclose(state.histogram, reference.seen, rtol=1e-5)
  assert time_constant or selected[0] == U
  assert selected[6] == 0
  assert any(0 < count < U for count in selected)


def test_the_gradient_of_fairness_is_correct():
  random = np.random.default_rng(0)
  outputs = fake.random_outputs(random, 3, B, U)
  label = fake.random_labels(random, B, 3)
  method = freematch.make(time_constant=0.0, scale=0.0, fairness=1.0, momentum=0.5)
  result = fake.stepper(method)(
    method.init(Sizes(3, 12, U, B, U)), outputs, label, np.arange(U)
  )
  reference = Reference(3, 0.5)
  strong = outputs["unlabelled.strong"]["logits"]
  taught = reference.step(outputs["unlabelled.weak"]["logits"])
  assert 0 < sum(passes for _, passes in taught) < U
  for u, c in [(u, c) for u in range(U) for c in range(3)]:
    nearby = [strong.copy(), strong.copy()]
    for sign, place in zip([1, -1], nearby, strict=True):
      place[u, c] += sign * 1e-5
    if len({fake.argmax(row[u]) for row in [*nearby, strong]}) > 1:
      continue  # a tie: the histogram has a step there
    after, before = (reference.fairness(place, taught) for place in nearby)
    assert result.gradient["unlabelled.strong"]["logits"][u, c] == pytest.approx(
      (after - before) / 2e-5, rel=1e-3, abs=1e-6
    )


@pytest.mark.parametrize(("weakly", "strongly"), [(1, 2), (2, 2), (0, 1)])
def test_a_class_missing_from_a_histogram_counts_as_0(weakly, strongly):
  random = np.random.default_rng(0)
  outputs = fake.random_outputs(random, 3, B, U)
  weak, strong = (outputs[f"unlabelled.{v}"]["logits"] for v in ("weak", "strong"))
  weak[:, weakly] -= 5
  strong[:, strongly] -= 5
  label = fake.random_labels(random, B, 3)
  method = freematch.make(fairness=1.0, momentum=0.0)  # h~ is the batch's
  state = method.init(Sizes(3, 12, U, B, U))
  result = fake.stepper(method)(state, outputs, label, np.arange(U))
  reference = Reference(3, 0.0)
  expected = reference.fairness(strong, reference.step(weak))
  assert reference.seen[weakly] == 0
  assert result.totals["fairness"] == pytest.approx(expected, rel=1e-5)
  assert np.all(np.isfinite(result.gradient["unlabelled.strong"]["logits"]))


def test_averages_are_updated_before_they_are_used():
  # 1/2 would let the last text pass, (1/2 + 0.95) / 2 does not.
  weak = np.array([[np.log(q / (1 - q)), 0.0] for q in [0.99] * 9 + [0.6]])
  outputs = {"labelled.weak": {"logits": np.zeros((1, 2))}}
  outputs |= {f"unlabelled.{v}": {"logits": weak} for v in ("weak", "strong")}
  method = freematch.make(time_constant=0.0, momentum=0.5)
  state = method.init(Sizes(2, 1, 10, 1, 10))
  result = fake.stepper(method)(state, outputs, np.eye(2)[:1], np.arange(10))
  np.testing.assert_array_equal(result.assigned.weight, [1] * 9 + [0])

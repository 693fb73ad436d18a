"""AdaMatch against the equations of arXiv 2106.04732, in plain Python."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import adamatch
from tests.golden import fake, plain

U, B = 24, 6


class Reference:
  """Keeps the running means of labelled and unlabelled predictions."""

  def __init__(self, classes, momentum, threshold, window=0):
    self.classes, self.momentum, self.threshold = classes, momentum, threshold
    self.labelled = self.model = None
    self.window = plain.Window(window) if window else None

  def move(self, old, rows):
    new = [sum(row[c] for row in rows) / len(rows) for c in range(self.classes)]
    if old is None:
      return new
    m = self.momentum
    return [m * a + (1 - m) * b for a, b in zip(old, new, strict=True)]

  def step(self, known, weak):
    """(label, passes) of each text; `known` are the labelled texts' logits."""
    p = [fake.softmax(row) for row in known]
    q = [fake.softmax(row) for row in weak]
    self.labelled = self.move(self.labelled, p)
    self.model = self.window.see(q) if self.window else self.move(self.model, q)
    cut = self.threshold * sum(max(row) for row in p) / len(p)
    found = []
    for row in q:
      scaled = [
        row[c] * (self.labelled[c] + 1e-6) / (self.model[c] + 1e-6)
        for c in range(self.classes)
      ]
      even = [s / sum(scaled) for s in scaled]
      c = fake.argmax(even)
      assert abs(even[c] - cut) > 1e-6  # no matter of rounding
      found.append((c, even[c] >= cut))
    return found


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
  ("momentum", "time_constant", "window", "length"),
  [
    (0.6, 0.0, 0, 0),
    (0.0, 0.0, 0, 0),  # means of one batch
    (0.6, 0.02, 0, 0),
    (0.6, 0.04, 128, 4),
    (0.6, 0.04, 3, 3),
    (0.6, 0.0, 128, 128),
  ],
)
def test_equals_the_equations(classes, momentum, time_constant, window, length):
  random = np.random.default_rng(classes)
  method = adamatch.make(
    threshold=0.9,
    scale=0.7,
    momentum=momentum,
    time_constant=time_constant,
    window=window,
    interpolation=False,
  )
  take = fake.stepper(method)
  state = method.init(Sizes(classes, 12, U, B, U, steps=100))
  reference = Reference(classes, momentum, 0.9, length)
  selected, moved = [], 0
  for step in range(7):
    outputs = fake.random_outputs(random, classes, B, U)
    known = outputs["labelled.weak"]["logits"]
    weak = outputs["unlabelled.weak"]["logits"]
    weak[:, -1] -= 9 * (step == 2)  # a class nobody predicts
    if step == 4:  # the labelled are sure, nobody else is
      known *= 50
      weak /= 50
    if step == 5:  # and the other way round
      known /= 50
      weak *= 50
    label = fake.random_labels(random, B, classes)
    result = take(state, outputs, label, np.arange(U), step)
    state = result.state

    reference.momentum = plain.kept(momentum, time_constant, step)
    taught = reference.step(known, weak)
    moved += [c for c, _ in taught] != [fake.argmax(row) for row in weak]
    selected.append(sum(passes for _, passes in taught))
    taught = [(fake.one_hot(c, classes), passes) for c, passes in taught]
    plain.check_consistency(result, outputs, label, taught)
    np.testing.assert_allclose(state.labelled.mean, reference.labelled, rtol=1e-5)
    if window:
      assert state.model.means.shape == (length, classes)
      reference.window.check(state.model)
    else:
      mean = state.model.mean
      np.testing.assert_allclose(mean, reference.model, rtol=1e-5, atol=1e-7)
  assert selected[4] == 0
  assert selected[5] == U
  assert any(0 < count < U for count in selected)
  assert moved  # the alignment decides labels too


def test_labelled_logits_are_interpolated_for_each_entry():
  random = np.random.default_rng(0)
  classes, many = 5, 200
  method = adamatch.make(threshold=0.9, momentum=0.6, time_constant=0.0, window=0)
  take = fake.stepper(method)
  state = method.init(Sizes(classes, many, U, many, U))
  reference = Reference(classes, 0.6, 0.9)
  shares = []
  for step in range(3):
    outputs = fake.random_outputs(random, classes, many, U, spread=1.0)
    outputs["labelled.weak/alone"] = {
      "logits": fake.random_logits(random, many, classes)
    }
    label = fake.random_labels(random, many, classes)
    result = take(state, outputs, label, np.arange(U), step)
    state = result.state
    # Both passes learn, each as far as it has a share.
    together, alone = (
      np.array(result.gradient[name]["logits"], np.float64)
      for name in ("labelled.weak", "labelled.weak/alone")
    )
    share = together / (together + alone)
    assert np.all((share >= 0) & (share <= 1))
    shares.append(share)
    mixed = share * outputs["labelled.weak"]["logits"]
    mixed += (1 - share) * outputs["labelled.weak/alone"]["logits"]

    taught = reference.step(mixed, outputs["unlabelled.weak"]["logits"])
    loss = 0.0
    for u, (c, passes) in enumerate(taught):
      target = fake.one_hot(c, classes)
      np.testing.assert_array_equal(result.assigned.target[u], target)
      assert result.assigned.weight[u] == passes
      strong = outputs["unlabelled.strong"]["logits"][u]
      loss += passes * fake.cross_entropy(strong, target)
    assert result.totals == pytest.approx(
      {"labelled": fake.mean_cross_entropy(mixed, label), "unlabelled": loss / U},
      rel=1e-5,
    )
    np.testing.assert_allclose(state.labelled.mean, reference.labelled, rtol=1e-5)
  # Uniform in each entry, others at each step.
  assert np.abs(shares[0] - shares[1]).mean() > 0.2
  assert np.abs(np.diff(shares[0], axis=0)).mean() > 0.2
  assert np.abs(np.diff(shares[0], axis=1)).mean() > 0.2
  for share in shares:
    ordered = np.sort(share, axis=None)
    even = (np.arange(ordered.size) + 0.5) / ordered.size
    assert np.abs(ordered - even).max() < 0.06  # Kolmogorov-Smirnov


def test_the_threshold_is_relative_to_labelled_confidence():
  weak = np.array([[2.0, 0.0], [0.0, 2.0]])
  outputs = {f"unlabelled.{v}": {"logits": weak} for v in ("weak", "strong")}
  method = adamatch.make(interpolation=False)
  for known, passes in [(9.0, 0), (1.0, 1)]:
    outputs["labelled.weak"] = {"logits": np.array([[known, 0.0], [0.0, known]])}
    state = method.init(Sizes(2, 2, 2, 2, 2))
    result = fake.stepper(method)(state, outputs, np.eye(2), [0, 1])
    np.testing.assert_array_equal(result.assigned.weight, [passes] * 2)

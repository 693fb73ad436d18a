"""DASO over methods against arXiv 2106.05682, in plain Python."""

import functools

import numpy as np
import pytest

from ssljax.wrappers import daso
from tests.golden import fake, plain, wrapped

WIDTH, WARMUP = 4, 0.3
SCALE, HEAT, SPREAD, NEWEST, MOMENTUM = 0.8, 0.1, 1.7, 8, 0.6
B, U = wrapped.B, wrapped.U


class Reference:
  """Keeps decaying sums of labelled features, and frequencies of predictions."""

  def __init__(self, classes):
    self.classes = classes
    self.sums, self.count = np.zeros((classes, WIDTH)), np.zeros(classes)
    self.vote, self.momentum = np.full(classes, 1 / classes), MOMENTUM

  def likeness(self, feature):
    """cos(feature, prototype) / T of each class."""
    if not np.any(feature):
      return [0.0] * self.classes
    one = plain.unit(feature)
    return [plain.dot(one, plain.unit(row)) / HEAT for row in self.sums]

  def told(self, started, outputs):
    """What the method hears of the weak view, as probabilities."""
    rows = [np.array(fake.softmax(row)) for row in outputs["logits"]]
    if started:
      for u, row in enumerate(rows):
        top = self.vote[fake.argmax(row)] / max(self.vote)
        share = top ** (1 / SPREAD)
        like = np.array(fake.softmax(self.likeness(outputs["features"][u])))
        rows[u] = (1 - share) * row + share * like
    return rows

  def drawn(self, weak, strong) -> float:
    """CE(likeness of the strong features, likeness of the weak)."""
    target = fake.softmax(self.likeness(weak))
    return fake.cross_entropy(self.likeness(strong), target)

  def see(self, features, label, told):
    """After the step: newer texts push older ones out, and votes are counted."""
    for c in range(self.classes):
      of = [row for row, y in zip(features, label, strict=True) if y[c]]
      left = (1 - 1 / NEWEST) ** len(of)
      self.sums[c] = left * self.sums[c] + sum(of)
      self.count[c] = left * self.count[c] + len(of)
    votes = [fake.argmax(row) for row in told]
    now = [votes.count(c) / len(votes) for c in range(self.classes)]
    self.vote = self.momentum * self.vote + (1 - self.momentum) * np.array(now)


def make(inner, **more):
  keywords = {"scale": SCALE, "temperature": HEAT, "distribution": SPREAD}
  keywords |= {"warmup": WARMUP, "newest": NEWEST, "momentum": MOMENTUM}
  keywords |= {"time_constant": 0.0}
  return daso.make(inner, **keywords | more)


@pytest.mark.parametrize("inner", wrapped.INNER)
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
  "time_constant", [pytest.param(0.0, marks=pytest.mark.slow), 0.02]
)
def test_equals_the_equations(inner, classes, time_constant):
  random = np.random.default_rng(classes)
  method = make(wrapped.method(inner), time_constant=time_constant)
  take = fake.stepper(method)
  state = method.init(wrapped.sizes(classes, width=WIDTH))
  reference, rule = Reference(classes), wrapped.reference(inner, classes)
  scenes = wrapped.scenes(random, classes, features=WIDTH)
  for step, (outputs, label, index) in enumerate(scenes):
    if step < 2:
      label = np.eye(classes)[np.arange(B) % classes]  # all have a prototype
    if step == 2:  # like nothing: nobody is sure
      outputs["unlabelled.weak"]["features"][:] = 0
    if step == 3:  # like the prototypes: all are sure
      outputs["unlabelled.weak"]["features"] = reference.sums[np.arange(U) % classes]
    result = take(state, outputs, label, index, step, step / 5)
    state, started = result.state, step / 5 >= WARMUP
    weak, strong = (outputs[f"unlabelled.{view}"] for view in ("weak", "strong"))
    told = reference.told(started, weak)
    taught = rule.step(np.log(told))
    features = [weak["features"], strong["features"]]
    pairs = list(zip(*features, strict=True))
    total = sum(reference.drawn(*pair) for pair in pairs) if started else 0.0
    expected = wrapped.Expected(taught, wrapped.trained_logits(outputs), label)
    expected.check(result, likeness=SCALE * total / U)
    for u, d in [(0, 0), (7, 2), (U - 1, 3)] if started else []:
      ahead = functools.partial(reference.drawn, features[0][u])
      slope = SCALE * plain.slope(ahead, features[1][u], d) / U
      found = result.gradient["unlabelled.strong"]["features"][u, d]
      assert found == pytest.approx(slope, rel=1e-2, abs=1e-6)
    for view in ("labelled.weak", "unlabelled.weak"):
      assert not np.any(result.gradient[view]["features"])
    reference.momentum = plain.kept(MOMENTUM, time_constant, step)
    reference.see(outputs["labelled.weak"]["features"], label, told)
    np.testing.assert_allclose(state.feature, reference.sums, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.count, reference.count, rtol=1e-5)
    np.testing.assert_allclose(state.vote, reference.vote, rtol=1e-5)
    if step in (2, 3) and inner == "fixmatch":
      assert {weight for _, weight in taught} == {step - 2.0}


def one_step(label, outputs, before=1, **more):
  """The second of two steps, or a later one."""
  method = make(wrapped.method("fixmatch"), **{"warmup": 0.0} | more)
  take = fake.stepper(method)
  state = method.init(wrapped.sizes(label.shape[1], width=WIDTH))
  for step in range(before):
    state = take(state, outputs, label, np.arange(U), step, 0.5).state
  return take(state, outputs, label, np.arange(U), before, 0.5)


def test_it_starts_once_each_class_has_a_prototype():
  outputs, _, _ = next(wrapped.scenes(np.random.default_rng(0), 3, features=WIDTH))
  lacking, whole = np.eye(3)[np.arange(B) % 2], np.eye(3)[np.arange(B) % 3]
  assert one_step(lacking, outputs).totals["likeness"] == 0
  assert one_step(whole, outputs, before=0).totals["likeness"] == 0
  assert one_step(whole, outputs).totals["likeness"] > 0


def test_frequent_predictions_are_blended_most():
  """The most frequent class uses the similarity alone, a rare one the prediction."""
  outputs = {v: {} for v in ("labelled.weak", "unlabelled.weak", "unlabelled.strong")}
  for view, view_outputs in outputs.items():
    many = B if view == "labelled.weak" else U
    view_outputs["features"] = np.zeros((many, WIDTH))
    view_outputs["logits"] = np.zeros((many, 2))
  label = np.eye(2)[np.arange(B) % 2]
  outputs["labelled.weak"]["features"][:, :2] = label
  weak = outputs["unlabelled.weak"]
  weak["logits"][:] = [6.0, 0.0]
  weak["logits"][0] = [0.0, 6.0]
  weak["features"][:, 1] = 1.0  # all like the second class ...
  weak["features"][0] = [1, 0, 0, 0]  # ... but the one that is voted into it
  target = np.asarray(one_step(label, outputs, before=1, momentum=0.0).assigned.target)
  assert np.all(target[1:, 1] == 1)
  assert target[0, 1] == 1


def test_prototypes_favour_the_newest_texts():
  """For equal numbers, the texts of the last batch have the highest weight."""
  random = np.random.default_rng(0)
  outputs, _, _ = next(wrapped.scenes(random, 2, features=WIDTH))
  label = np.eye(2)[np.arange(B) % 2]
  method = make(wrapped.method("fixmatch"), newest=2)
  take, state = fake.stepper(method), method.init(wrapped.sizes(2, width=WIDTH))
  for step in range(12):
    outputs["labelled.weak"]["features"] = np.full((B, WIDTH), float(step))
    state = take(state, outputs, label, np.arange(U), step).state
  found = np.asarray(state.feature) / np.asarray(state.count)[:, None]
  assert np.all((found > 10.8) & (found < 11))


@pytest.mark.parametrize("inner", wrapped.INNER)
def test_before_the_warmup_the_method_is_unchanged(inner):
  """Up to rounding in the logarithm of a probability."""
  random, method = np.random.default_rng(5), wrapped.method(inner)
  wrapped_method = make(method, warmup=1.0)
  takes = [fake.stepper(one) for one in (wrapped_method, method)]
  states = [one.init(wrapped.sizes(3, width=WIDTH)) for one in (wrapped_method, method)]
  scenes = wrapped.scenes(random, 3, features=WIDTH)
  for step, (outputs, label, index) in enumerate(scenes):
    found, expected = (
      take(state, outputs, label, index, step, step / 6)
      for take, state in zip(takes, states, strict=True)
    )
    states = [found.state, expected.state]
    assert found.totals.pop("likeness") == 0
    assert found.totals == pytest.approx(expected.totals, rel=1e-5)
    np.testing.assert_array_equal(found.assigned.target, expected.assigned.target)
    np.testing.assert_allclose(
      found.assigned.weight, expected.assigned.weight, rtol=1e-4
    )

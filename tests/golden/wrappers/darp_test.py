"""DARP over methods against arXiv 2007.08844, in plain NumPy."""

import functools

import jax
import numpy as np
import pytest

from ssljax.methods import pi_model
from ssljax.wrappers import darp
from tests.golden import fake, wrapped

COUNTS = {2: (13, 3), 3: (8, 5, 3)}
WARMUP, EVERY = 0.2, 2


def entropy(rows):
  return np.array([-sum(p * np.log(p) for p in row if p > 0) for row in rows])


def refined(rows, multiplier):
  """Normalise(y exp(-H(y) nu)), where the gradient of the Lagrangian is 0."""
  found = np.zeros_like(rows)
  for n, sure in enumerate(entropy(rows)):
    powers = rows[n] * np.exp(-sure * (multiplier - multiplier.min()))
    found[n] = powers / powers.sum()
  return found


def solved(rows, wanted):
  """The multipliers of mean 0 whose rows have the sums `wanted`."""
  classes = len(wanted)
  multiplier, sure = np.zeros(classes), entropy(rows)
  for _ in range(200):
    x = refined(rows, multiplier)
    slope = np.zeros((classes, classes))
    for weight, row in zip(sure, x, strict=True):
      slope -= weight * (np.diag(row) - np.outer(row, row))
    move = np.linalg.lstsq(slope, wanted - x.sum(0), rcond=None)[0]
    multiplier = multiplier + move * min(1.0, 2.0 / max(np.abs(move).max(), 1e-9))
  np.testing.assert_allclose(x.sum(0), wanted, rtol=1e-6)
  return multiplier - multiplier.mean()


class Reference:
  """Keeps the last prediction of each row, the kept classes and the multipliers."""

  def __init__(self, counts, alpha):
    self.share, self.alpha = np.array(counts) / sum(counts), alpha
    self.seen = {}
    self.multiplier, self.least = np.zeros(len(counts)), np.zeros(len(counts))

  def kept(self, rows):
    """Of each row the classes that keep it; a row that none keeps is as it was."""
    some = np.where(rows >= self.least - 1e-6, rows, 0.0)
    some = np.where(some.any(1, keepdims=True), some, rows)
    return some / some.sum(1, keepdims=True)

  def told(self, step, progress, weak, index):
    """What the method hears of the weak view, as probabilities."""
    rows = np.array([fake.softmax(row) for row in weak])
    self.seen |= dict(zip(index.tolist(), rows, strict=True))
    if progress < WARMUP:
      return rows
    if step % EVERY == 0:
      every = np.array(list(self.seen.values()))
      wanted = len(every) * self.share
      blank = np.zeros((wrapped.ROWS - len(every), len(wanted)))  # not seen yet
      ranked = np.sort(np.concatenate([every, blank]), axis=0)[::-1]
      many = np.minimum((self.alpha * wanted).astype(int), wrapped.ROWS)
      self.least = np.array([ranked[k - 1, c] for c, k in enumerate(many)])
      self.multiplier = solved(self.kept(every), wanted)
    return refined(self.kept(rows), self.multiplier)


def scenes(random, counts):
  """`wrapped.scenes` with class frequencies close to the wanted ones."""
  classes = len(counts)
  for step, inputs in enumerate(wrapped.scenes(random, classes, features=4)):
    outputs, _, _ = inputs
    weak = outputs["unlabelled.weak"]["logits"]
    weak[:] = fake.random_logits(random, wrapped.U, classes, spread=1.0)
    weak[:, -1] -= 4 * (step == 1)  # a class nobody predicts
    weak[:, 0] += random.normal(size=wrapped.U) / 8  # no two rows alike
    if step == 2:
      weak[:] = 0
    if step == 3:
      of = np.repeat(np.arange(classes), counts)[np.arange(wrapped.U) % sum(counts)]
      weak += 5 * np.eye(classes)[of]
    outputs["kernel"] = random.normal(size=(4, classes))
    yield inputs


@pytest.mark.parametrize(
  ("inner", "classes", "alpha"),
  [("fixmatch", 2, 1.5), ("fixmatch", 3, 1.5), ("softmatch", 3, 1.5)],
)
def test_equals_the_equations(inner, classes, alpha):
  random, counts = np.random.default_rng(classes), COUNTS[classes]
  method = darp.make(wrapped.method(inner), WARMUP, EVERY, alpha)
  take = fake.stepper(method)
  state = method.init(wrapped.sizes(classes, counts))
  reference, rule = Reference(counts, alpha), wrapped.reference(inner, classes)
  for step, (outputs, label, index) in enumerate(scenes(random, counts)):
    result = take(state, outputs, label, index, step, step / 5)
    state = result.state
    weak = outputs["unlabelled.weak"]["logits"]
    told = reference.told(step, step / 5, weak, index)
    taught = rule.step(np.log(np.maximum(told, 1e-30)))
    wrapped.Expected(taught, wrapped.trained_logits(outputs), label).check(result)
    np.testing.assert_allclose(state.wanted, reference.share, rtol=1e-5)
    np.testing.assert_allclose(state.least, reference.least, rtol=1e-4)
    assert result.assigned.scalars["class_gap"] == state.gap < 1e-4
    multiplier = np.asarray(state.multiplier)
    np.testing.assert_allclose(multiplier, reference.multiplier, rtol=2e-3, atol=1e-3)
    for u in range(wrapped.ROWS):
      row = reference.seen.get(u, np.zeros(classes))
      np.testing.assert_allclose(state.seen[u], row, rtol=1e-5, atol=1e-7)
    if step in (2, 3) and inner == "fixmatch":
      assert {weight for _, weight in taught} == {step - 2.0}
  assert np.abs(reference.multiplier).max() > 0.1


@functools.cache
def bending(alpha):
  """A method whose target is x."""
  method = darp.make(pi_model.make(), 0.0, 1, alpha)
  return method, fake.stepper(method)


def soft(counts, rows, alpha=100.0, steps=1):
  """(x, state) for `rows` after `steps` steps with them."""
  classes = len(counts)
  method, take = bending(alpha)
  state = method.init(wrapped.sizes(classes, counts))
  outputs, label, _ = next(wrapped.scenes(np.random.default_rng(0), classes))
  outputs["unlabelled.weak"]["logits"] = np.log(np.maximum(rows, 1e-30))
  for step in range(steps):
    result = take(state, outputs, label, np.arange(wrapped.U), step, 0.5)
    state = result.state
  return np.asarray(result.assigned.target, np.float64), state


def votes(random, classes, spread=1.0):
  logits = random.normal(size=(wrapped.U, classes)) * spread
  return np.array([fake.softmax(row) for row in logits])


def test_refined_rows_are_the_nearest_with_the_wanted_counts():
  """No change that keeps the sums of rows and of classes reduces the divergence."""
  random, counts = np.random.default_rng(1), (8, 5, 3)
  y = votes(random, 3)
  x, _ = soft(counts, y)
  np.testing.assert_allclose(x.sum(1), 1.0, rtol=1e-5)
  np.testing.assert_allclose(x.sum(0), wrapped.U * np.array(counts) / 16, rtol=1e-4)
  slope = (np.log(x / y) + 1) / entropy(y)[:, None]
  size = np.abs(slope - slope.mean()).mean()
  for _ in range(20):
    step = random.normal(size=y.shape)
    step -= step.mean(0)
    step -= step.mean(1, keepdims=True)
    ascent = np.sum(slope * step) / np.sqrt(np.sum(step**2))
    assert abs(ascent) < 1e-3 * size
  assert np.abs(x - y).max() > 0.1


def test_very_confident_rows_reach_the_wanted_counts():
  """Their entropies are small, so the multipliers are large."""
  for counts in ((1, 3), (8, 5, 3)):
    y = votes(np.random.default_rng(6), len(counts), spread=3.0)
    x, _ = soft(counts, y)
    wanted = wrapped.U * np.array(counts) / sum(counts)
    np.testing.assert_allclose(x.sum(0), wanted, rtol=1e-3)
  y = np.array([[0.999, 0.001]] * (wrapped.U - 1) + [[0.001, 0.999]])
  x, state = soft((1, 1), y)
  np.testing.assert_allclose(x.sum(0), wrapped.U / 2, rtol=1e-4)
  assert np.abs(state.multiplier).max() > 100
  assert state.gap < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "spread"), [(2, 20), (15, 8)])
def test_many_confident_rows_reach_the_wanted_counts(classes, spread):
  """Like predictions of a trained encoder: most are confident."""
  logits = np.random.default_rng(0).normal(size=(2000, classes)) * spread
  logits[:, 0] += spread / 2
  y = np.array([fake.softmax(row) for row in logits], np.float32)
  wanted = np.full(classes, 1 / classes, np.float32)
  start = np.zeros(classes, np.float32)
  multiplier, gap, least = jax.jit(darp.solve)(y, wanted, start, 1000.0)
  x = np.asarray(darp.refined(darp.keep_confident(y, least), multiplier), np.float64)
  assert np.abs(y.sum(0) - 2000 / classes).max() > 100
  np.testing.assert_allclose(x.sum(0), 2000 / classes, atol=0.1)
  assert gap < 1e-4


def test_confident_rows_change_less():
  y = votes(np.random.default_rng(2), 2)
  y[:2] = [[0.98, 0.02], [0.6, 0.4]]
  x, _ = soft((1, 3), y)
  logit = lambda rows: np.log(rows[:, 0] / rows[:, 1])
  moved = np.abs(logit(x) - logit(y))
  assert moved[0] < 0.25 * moved[1]


@pytest.mark.slow
def test_a_class_keeps_only_its_most_confident_rows():
  random, counts = np.random.default_rng(3), (1, 1)
  y = votes(random, 2)
  y = y[np.argsort(y[:, 0])]
  x, state = soft(counts, y, alpha=1.0)
  np.testing.assert_allclose(state.least, [y[12, 0], y[11, 1]], rtol=1e-5)
  np.testing.assert_allclose(x, np.repeat(np.eye(2)[::-1], 12, axis=0), atol=1e-5)


@pytest.mark.slow
def test_a_row_that_all_classes_drop_is_unchanged():
  y = np.array([[0.7, 0.3], [0.3, 0.7]] * (wrapped.U // 2 - 2))
  y = np.concatenate([y, [[0.9, 0.1], [0.1, 0.9]] * 2])
  x, state = soft((1, 1), y, alpha=0.1)
  assert np.all(np.asarray(state.least) > 0.8)
  np.testing.assert_allclose(x[:-4], y[:-4], atol=1e-4)
  np.testing.assert_allclose(x[-4:], [[1, 0], [0, 1]] * 2, atol=1e-5)


def test_fully_confident_rows_are_unchanged():
  """No multipliers can move them to the wanted counts."""
  y = np.eye(3)[np.arange(wrapped.U) % 3]
  x, state = soft((8, 5, 3), y, steps=2)
  assert np.all(np.isfinite(state.multiplier))
  np.testing.assert_allclose(x, y, atol=1e-5)
  assert state.gap == pytest.approx(1 / 2 - 1 / 3, abs=1e-3)  # and it is told


@pytest.mark.slow
@pytest.mark.parametrize("inner", wrapped.INNER)
def test_before_the_warmup_the_method_is_unchanged(inner):
  """Up to rounding in the logarithm of a probability."""
  random, method = np.random.default_rng(5), wrapped.method(inner)
  wrapped_method = darp.make(method, 1.0, 1)
  takes = [fake.stepper(one) for one in (wrapped_method, method)]
  states = [one.init(wrapped.sizes(3)) for one in (wrapped_method, method)]
  for step, (outputs, label, index) in enumerate(wrapped.scenes(random, 3)):
    found, expected = (
      take(state, outputs, label, index, step, step / 6)
      for take, state in zip(takes, states, strict=True)
    )
    states = [found.state, expected.state]
    assert found.totals == pytest.approx(expected.totals, rel=1e-5)
    np.testing.assert_array_equal(found.assigned.target, expected.assigned.target)
    np.testing.assert_allclose(
      found.assigned.weight, expected.assigned.weight, rtol=1e-4
    )
    assert not np.any(found.state.multiplier)

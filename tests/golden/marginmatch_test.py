"""MarginMatch against its paper's equations, in plain Python over dictionaries."""

import itertools

import numpy as np
import pytest

from ssljax.method import Outputs, Sizes
from ssljax.methods import marginmatch
from tests.golden import fake, plain

N, U, B = 30, 12, 4
RUN = 2**20  # steps of the paper's run


class Reference:
  """The paper's tables; `wrong` and the schedule's events are given."""

  def __init__(self, classes, cut, virtual=False, ages="visits", rows=N, still=False):
    self.classes, self.cut, self.virtual, self.rows = classes, cut, virtual, rows
    self.still = still  # wrong rows keep their own margins
    self.threshold, self.smoothness, self.ages = 0.8, 0.997, ages
    self.average = {u: [0.0] * (classes + virtual) for u in range(rows)}
    self.visits = dict.fromkeys(range(rows), 0)
    self.learned = plain.Learned(classes, rows, self.threshold)
    self.wrong_average, self.wrong_visits = {}, {}  # since the last redraw

  def blend(self, old, new, age):
    share = self.smoothness / (1 + age)
    return new * share + old * (1 - share)

  def step(self, outputs, index, epoch, wrong):
    """Targets and weights; all levels are those of before this batch."""
    levels = [self.learned.level(c) for c in range(self.classes)]
    cut, found = self.cut, {}
    for place, u in enumerate(index):
      row = outputs.weak[place]
      age = self.visits[u] if self.ages == "visits" else epoch
      margins = fake.pseudo_margins(row)
      if not (self.still and u in wrong):
        pairs = zip(self.average[u], margins, strict=True)
        self.average[u] = [self.blend(*pair, age) for pair in pairs]
        self.visits[u] += 1
      q = fake.softmax(row[: self.classes])
      c = fake.argmax(q)
      if u in wrong:
        age = self.wrong_visits.get(u, 0)
        self.wrong_average[u] = self.blend(
          self.wrong_average.get(u, 0.0), margins[-1], age
        )
        self.wrong_visits[u] = age + 1
        continue
      found[u] = c, float(max(q) >= levels[c] and self.average[u][c] >= cut)
      self.learned.remember(u, q)
    share = sum(w for _, w in found.values()) / max(1, len(found))
    chosen = [found.get(u, (self.classes, share)) for u in index]
    width = self.classes + self.virtual
    return [fake.one_hot(c, width) for c, _ in chosen], [w for _, w in chosen]


def check(result, reference, outputs, label, target, weight, scale):
  np.testing.assert_array_equal(result.assigned.target, target)
  np.testing.assert_allclose(result.assigned.weight, weight, rtol=1e-6)
  loss = [
    w * fake.cross_entropy(z, t)
    for z, t, w in zip(outputs.strong, target, weight, strict=True)
  ]
  assert result.totals == pytest.approx(
    {
      "labelled": fake.supervised_loss(outputs, label),
      "unlabelled": scale * np.mean(loss),
    },
    rel=1e-5,
  )
  state = result.state
  np.testing.assert_allclose(state.margin, list(reference.average.values()), atol=1e-5)
  np.testing.assert_array_equal(state.visits, list(reference.visits.values()))
  np.testing.assert_array_equal(state.learned.label, reference.learned.labels())
  np.testing.assert_array_equal(state.learned.count, reference.learned.counts())


def speech(random, classes, width, spread=2.0):
  return fake.Logits(
    fake.random_logits(random, B, width),
    fake.random_logits(random, U, width, spread=spread)
    - np.eye(width)[classes - 1] * 3,
    fake.random_logits(random, U, width),
  )


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("ages", ["visits", "epoch"])
@pytest.mark.parametrize("cut", [0.0, 1.5])
def test_fixed_cutoff(classes, ages, cut):
  random = np.random.default_rng(classes)
  method = marginmatch.make(
    threshold=0.8, cut_off=cut, scale=0.5, warmup_ends=1.0, clock=ages
  )
  take = fake.simple_stepper(method)
  state = method.init(Sizes(classes, B, N, B, U, 100, 4))
  reference = Reference(classes, cut, ages=ages)
  used = []
  for step in range(14):
    outputs = speech(random, classes, classes, spread=[2.0, 0.1, 9.0][step % 3])
    label = fake.random_labels(random, B, classes)
    index = random.permutation(N)[:U]
    result = take(state, outputs, label, index, step, step // 4)
    target, weight = reference.step(outputs, index, step // 4, wrong=())
    check(result, reference, outputs, label, target, weight, 0.5)
    state = result.state
    used += weight
  assert 0 < sum(used) < len(used)


def test_thresholds_are_0_at_first_and_high_for_learned_classes():
  method = marginmatch.make(cut_off=-100.0)
  take = fake.simple_stepper(method)
  state = method.init(Sizes(2, B, U, B, U))
  nothing, label = np.zeros((U, 2)), np.eye(2)[[0] * B]
  weak = np.array([[0.5, 0]] * U)
  first = take(state, fake.Logits(np.zeros((B, 2)), weak, nothing), label, range(U))
  assert np.all(first.assigned.weight == 1)
  confident = fake.Logits(np.zeros((B, 2)), weak * 20, nothing)
  second = take(first.state, confident, label, range(U), 1)
  unsure = confident._replace(weak=weak)
  third = take(second.state, unsure, label, range(U), 2)
  assert np.all(third.assigned.weight == 0)  # 0.62 < 0.95


def test_thresholds_are_from_before_the_batch():
  method = marginmatch.make(cut_off=0.0)
  take = fake.simple_stepper(method)
  weak = np.array([[9.0, 0.0]] * (U - 1) + [[0.5, 0.0]])
  outputs = fake.Logits(np.zeros((B, 2)), weak, np.zeros((U, 2)))
  label = np.eye(2)[[0] * B]
  first = take(method.init(Sizes(2, B, U, B, U)), outputs, label, range(U))
  np.testing.assert_array_equal(first.assigned.weight, [1] * U)
  second = take(first.state, outputs, label, range(U), 1)
  np.testing.assert_array_equal(second.assigned.weight, [1] * (U - 1) + [0])


def test_the_runner_up_of_negative_logits_is_negative():
  method = marginmatch.make(cut_off=0.5, smoothness=1.0)
  take = fake.simple_stepper(method)
  weak = np.array([[-4.0, -6.0, -7.0]])
  outputs = fake.Logits(np.zeros((1, 3)), weak, np.zeros((1, 3)))
  result = take(method.init(Sizes(3, 1, 1, 1, 1)), outputs, np.eye(3)[:1], [0])
  np.testing.assert_allclose(result.state.margin, [[2, -2, -3]])
  np.testing.assert_array_equal(result.assigned.weight, [1])


def events(step, declare):
  """The paper's events at a step of its 2**20: (redraw, end of warm-up, new cut)."""
  over = step >= 0.9 * RUN
  since = step % 50_000
  if declare == "after_warmup" and step < 100_000:
    since = step - 80_000
  settled = since >= 1_000
  return (
    since == 0 and not over,
    step == 80_000,
    step > 80_000 and settled and step % 200 == 0 and not over,
  )


STEPS = [0, 1, 5, 49_999, 50_000, 50_200, 79_800, 80_000, 80_001, 80_200, 80_300]
STEPS += [
  80_400,
  80_800,
  81_000,
  81_100,
  81_200,
  100_000,
  100_200,
  100_800,
  101_000,
  101_001,
  101_200,
  150_000,
]
STEPS += [151_000, 151_200, 943_600, 943_700, 943_800, 950_000, 951_000]


def mask_of(state, rows):
  """bool [rows], which rows are declared wrong."""
  return np.isin(np.arange(rows), state.wrong.rows)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("declare", ["after_warmup", "always"])
def test_virtual_class(classes, declare):
  random = np.random.default_rng(classes)
  method = marginmatch.make(
    "virtual_class", threshold=0.8, scale=0.5, warmup_ends=1.0, declare=declare
  )
  assert method.needs.virtual_classes == 1
  take = fake.simple_stepper(method)
  rows = 1200
  state = method.init(Sizes(classes, B, rows, B, U, RUN, 4))
  still = declare == "after_warmup"
  reference = Reference(classes, -np.inf, virtual=True, rows=rows, still=still)
  cuts, shares, drawn = [], set(), []
  for step in STEPS:
    redraw, warm, recut = events(step, declare)
    none = step >= 0.9 * RUN or (still and step < 80_000)
    outputs = speech(random, classes, classes + 1)
    label = fake.random_labels(random, B, classes, classes + 1)
    # Which rows are wrong is a draw: look at it, then take some of them.
    before = mask_of(state, rows)
    mask = mask_of(take(state, outputs, label, np.arange(U), step).state, rows)
    assert mask.sum() == (0 if none else min(rows // 100, rows // (classes + 1)))
    if redraw:
      drawn.append(mask)
      reference.wrong_average, reference.wrong_visits = {}, {}
    elif not none:
      np.testing.assert_array_equal(mask, before)
    wrong = random.permutation(np.flatnonzero(mask))[:4]
    right = random.permutation(np.flatnonzero(~mask)[:20])[: U - len(wrong)]
    index = np.concatenate([wrong, right])

    result = take(state, outputs, label, index, step)
    target, weight = reference.step(outputs, index, 0, set(wrong))
    check(result, reference, outputs, label, target, weight, 0.5)
    state = result.state
    if warm:
      reference.cut = 0.0
    if recut:
      reference.cut = fake.quantile(list(reference.wrong_average.values()), 0.95)
    assert float(state.cut) == pytest.approx(reference.cut, abs=1e-5)
    cuts.append(reference.cut)
    shares |= {weight[0]} if len(wrong) else set()
  assert len(set(cuts)) > 7  # none, 0, and a quantile each time
  assert len(set(cuts[-4:])) == 1  # frozen at the end
  assert len(shares) > 3
  assert all((a != b).any() for a, b in itertools.pairwise(drawn))
  logits = np.array([[1.0] * classes + [9.0]])
  assert method.predict(Outputs(logits, None, {})).shape == (1, classes)


@pytest.mark.slow
def test_the_percentile_is_the_95th():
  method = marginmatch.make("virtual_class")
  take = fake.simple_stepper(method)
  rows = 20_000  # 200 wrong ones
  state = method.init(Sizes(2, B, rows, B, U, RUN, 4))
  outputs = fake.Logits(np.zeros((B, 3)), np.zeros((U, 3)), np.zeros((U, 3)))
  label = np.eye(3)[[0] * B]
  wrong = take(state, outputs, label, range(U), 80_000).state.wrong
  values = np.random.default_rng(0).normal(size=200).astype(np.float32)
  state = state._replace(
    wrong=wrong._replace(margin=values, visits=np.full(200, 3, np.int32))
  )
  index = np.flatnonzero(~mask_of(state, rows))[:U]
  cut = float(take(state, outputs, label, index, 90_000).state.cut)
  assert cut == pytest.approx(np.quantile(values, 0.95), rel=1e-5)
  assert cut < np.quantile(values, 0.97)


@pytest.mark.slow
def test_a_wrong_row_keeps_its_own_margins():
  """Once it is no longer wrong, they continue from there."""
  method = marginmatch.make("virtual_class", smoothness=1.0)
  take = fake.simple_stepper(method)
  rows = 300
  state = method.init(Sizes(2, B, rows, B, U, RUN, 4))
  weak = np.tile([3.0, 1.0, 0.0], (U, 1))
  outputs = fake.Logits(np.zeros((B, 3)), weak, np.zeros((U, 3)))
  label = np.eye(3)[[0] * B]
  drawn = take(state, outputs, label, range(U), 80_000).state.wrong.rows
  index = np.concatenate([drawn, np.setdiff1d(np.arange(U), drawn)])[:U]
  for step, factor in ((79_000, 1.0), (80_000, -5.0), (80_001, 9.0)):
    state = take(state, outputs._replace(weak=factor * weak), label, index, step).state
  wrong = np.isin(index, drawn)
  assert 0 < wrong.sum() < U
  margin = np.asarray(state.margin)[index]
  np.testing.assert_allclose(margin[wrong], [[2, -2, -3]] * wrong.sum())
  assert np.all(np.asarray(state.visits)[index] == np.where(wrong, 1, 3))
  assert np.all(np.asarray(state.wrong.visits)[np.isin(drawn, index)] == 2)

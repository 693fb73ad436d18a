"""SimMatch against arXiv 2203.06915, in plain Python over dictionaries."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import simmatch
from tests.golden import fake, plain

B, U, WIDTH, LABELLED = 3, 6, 4, 9
THRESHOLD, TEMPERATURE, SCALE, INSTANCES = 0.7, 0.1, 0.7, 0.6
SMOOTHING, MOMENTUM, WINDOW = 0.6, 0.7, 3
VIEWS = {"labelled.weak": B, "unlabelled.weak": U, "unlabelled.strong": U}


def method(**changed):
  keywords = {
    "threshold": THRESHOLD,
    "temperature": TEMPERATURE,
    "scale": SCALE,
    "instances": INSTANCES,
    "smoothing": SMOOTHING,
    "momentum": MOMENTUM,
    "width": WIDTH,
    "window": WINDOW,
  }
  return simmatch.make(**(keywords | changed))


def speech(random, classes, spread=2.0):
  return plain.projections(random, VIEWS, classes, WIDTH, spread)


class Reference:
  """The bank, row -> (embedding, class), and the window of mean predictions."""

  def __init__(self, classes):
    self.classes, self.bank, self.window = classes, {}, plain.Window(WINDOW)

  def near(self, f):
    """softmax(f . bank / T), row -> similarity."""
    dots = [plain.dot(f, other) / TEMPERATURE for other, _ in self.bank.values()]
    return dict(zip(self.bank, fake.softmax(dots), strict=True))

  def lessons(self, weak, opened):
    """(q, s') of each text; q alone until the bank is used."""
    p = [fake.softmax(row) for row in weak["logits"]]
    seen = self.window.see(p)
    p = [plain.aligned(row, [1 / self.classes] * self.classes, seen) for row in p]
    if not opened:
      return [(row, None) for row in p]
    return [self.lesson(*pair) for pair in zip(weak["projection"], p, strict=True)]

  def lesson(self, f, p):
    s = self.near(f)
    unfolded = {k: x * p[self.bank[k][1]] for k, x in s.items()}
    whole = max(sum(unfolded.values()), 1e-12)  # the class may have no row yet
    classes = range(self.classes)
    found = [sum(x for k, x in s.items() if self.bank[k][1] == c) for c in classes]
    q = [SMOOTHING * p[c] + (1 - SMOOTHING) * found[c] for c in classes]
    return q, {k: x / whole for k, x in unfolded.items()}

  def remember(self, labelled, label, row):
    for f, y, k in zip(labelled["projection"], label, row, strict=True):
      if k in self.bank:
        old = self.bank[k][0]
        f = [MOMENTUM * a + (1 - MOMENTUM) * b for a, b in zip(old, f, strict=True)]
      self.bank[k] = plain.unit(f), fake.argmax(y)

  def alike(self, f, s):
    """CE(s, softmax(f . bank / T))."""
    dots = [plain.dot(f, other) / TEMPERATURE for other, _ in self.bank.values()]
    return fake.cross_entropy(dots, [s[k] for k in self.bank])


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(("start", "first"), [(1.0, 3), (0.1, 1)])
def test_equals_the_equations(classes, start, first):
  """In twelve steps; the bank is used after the first epoch, or after `first` steps."""
  random = np.random.default_rng(classes)
  made = method(start=start)
  take = fake.stepper(made)
  state = made.init(Sizes(classes, LABELLED, 40, B, U))
  labels = fake.random_labels(random, LABELLED, classes)
  reference, selected = Reference(classes), []
  for step in range(12):
    epoch = step // 3
    if step % 3 == 0:
      order = random.permutation(LABELLED)
    row = order[step % 3 * B :][:B]
    label = labels[row]
    outputs = speech(random, classes, spread=[2.0, 0.1, 4.0][step % 3])
    weak = outputs["unlabelled.weak"]["logits"]
    weak[:, 0] -= 9 * (step == 3)  # a class nobody predicts
    if step == 2:  # all are sure
      weak += 90 * np.eye(classes)[np.arange(U) % classes]
    result = take(
      state, outputs, label, np.arange(U), step, step / 12, epoch, rows=row, steps=12
    )
    state = result.state

    lessons = reference.lessons(outputs["unlabelled.weak"], step >= first)
    strong = outputs["unlabelled.strong"]
    confident = [float(max(q) >= THRESHOLD) for q, _ in lessons]
    hard = [
      m * fake.cross_entropy(z, q)
      for m, z, (q, _) in zip(confident, strong["logits"], lessons, strict=True)
    ]
    soft = [
      reference.alike(f, s) if s else 0.0
      for f, (_, s) in zip(strong["projection"], lessons, strict=True)
    ]
    known = outputs["labelled.weak"]["logits"]
    assert result.totals == pytest.approx(
      {
        "labelled": fake.mean_cross_entropy(known, label),
        "unlabelled": SCALE * sum(hard) / U,
        "instances": INSTANCES * sum(soft) / U,
      },
      rel=1e-5,
    )
    assert (result.totals["instances"] > 0) == (step >= first)
    np.testing.assert_allclose(
      result.assigned.target, [q for q, _ in lessons], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_array_equal(result.assigned.weight, confident)
    selected.append(sum(confident))

    reference.remember(outputs["labelled.weak"], label, row)
    for k in range(LABELLED):
      f, c = reference.bank.get(k, (np.zeros(WIDTH), None))
      np.testing.assert_allclose(state.feature[k], f, rtol=1e-5, atol=1e-6)
      hot = np.zeros(classes) if c is None else fake.one_hot(c, classes)
      np.testing.assert_array_equal(state.label[k], hot)
    reference.window.check(state.window)
  assert start < 1 or (min(selected), max(selected)) == (0, U)


def test_rows_that_were_not_visited_are_ignored():
  """If the batch size does not divide it, an epoch leaves rows out."""
  made, random = method(), np.random.default_rng(0)
  take, state = fake.stepper(made), made.init(Sizes(2, LABELLED, 40, B, U))
  reference = Reference(2)
  for epoch, row in enumerate([[4, 7, 1], [7, 0, 2]]):
    outputs, label = speech(random, 2), fake.random_labels(random, B, 2)
    result = take(state, outputs, label, np.arange(U), epoch=epoch, rows=row)
    state = result.state
    lessons = reference.lessons(outputs["unlabelled.weak"], epoch > 0)
    reference.remember(outputs["labelled.weak"], label, row)
  np.testing.assert_allclose(
    result.assigned.target, [q for q, _ in lessons], rtol=1e-4, atol=1e-6
  )
  np.testing.assert_array_equal(np.flatnonzero(state.label.any(1)), [0, 1, 2, 4, 7])


def test_repeated_rows_are_updated_once_by_their_mean():
  made, random = method(), np.random.default_rng(0)
  take, state = fake.stepper(made), made.init(Sizes(2, 2, 40, B, U))
  label, rows = np.eye(2)[[0, 1, 0]], [0, 1, 0]
  old = None
  for step in range(2):
    outputs = speech(random, 2)
    f = outputs["labelled.weak"]["projection"]
    state = take(state, outputs, label, np.arange(U), step, rows=rows).state
    new = (f[0] + f[2]) / 2
    old = plain.unit(new if old is None else MOMENTUM * old + (1 - MOMENTUM) * new)
    old = np.array(old)
    np.testing.assert_allclose(state.feature[0], old, rtol=1e-5, atol=1e-6)


def test_only_the_strong_embedding_has_a_gradient():
  made, random = method(), np.random.default_rng(0)
  take, state = fake.stepper(made), made.init(Sizes(3, LABELLED, 40, B, U))
  labels, reference = fake.random_labels(random, LABELLED, 3), Reference(3)
  for step in range(4):
    row = np.arange(step * B, (step + 1) * B) % LABELLED
    outputs = speech(random, 3)
    lessons = reference.lessons(outputs["unlabelled.weak"], step >= 3)
    result = take(state, outputs, labels[row], np.arange(U), step, 0, step // 3, row)
    state, before = result.state, reference.bank.copy()
    reference.remember(outputs["labelled.weak"], labels[row], row)
  reference.bank = before  # as the last step found it
  f = outputs["unlabelled.strong"]["projection"]
  found = result.gradient["unlabelled.strong"]["projection"]
  for b, d in ((0, 0), (2, 1), (5, 3)):
    s = lessons[b][1]
    slope = plain.slope(lambda row, s=s: reference.alike(row, s), f[b], d)
    assert found[b, d] == pytest.approx(INSTANCES * slope / U, rel=1e-3, abs=1e-6)
  assert not np.any(result.gradient["unlabelled.weak"]["logits"])
  assert not np.any(result.gradient["unlabelled.weak"]["projection"])
  assert not np.any(result.gradient["labelled.weak"]["projection"])

"""CoMatch against arXiv 2011.11183, in plain Python over lists."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import comatch
from tests.golden import fake, plain

B, U, WIDTH = 3, 6, 4
THRESHOLD, TEMPERATURE, SCALE, CONTRAST = 0.8, 0.2, 0.7, 0.6
SMOOTHING, AGREEMENT, WINDOW, BATCHES = 0.7, 0.5, 3, 2
VIEWS = {"labelled.weak": B} | {
  f"unlabelled.{v}": U for v in ("weak", "strong", "strong_2")
}


def method(**changed):
  keywords = {
    "threshold": THRESHOLD,
    "temperature": TEMPERATURE,
    "scale": SCALE,
    "contrast": CONTRAST,
    "smoothing": SMOOTHING,
    "agreement": AGREEMENT,
    "width": WIDTH,
    "window": WINDOW,
    "batches": BATCHES,
  }
  return comatch.make(**(keywords | changed))


def speech(random, classes, spread=2.0):
  return plain.projections(random, VIEWS, classes, WIDTH, spread)


def contrast(f, f_2, q, agreement=AGREEMENT):
  """L_c of the embeddings of two strong views."""
  loss = 0.0
  for i in range(U):
    weight = [1.0 if i == j else plain.dot(q[i], q[j]) for j in range(U)]
    weight = [w if w >= agreement else 0.0 for w in weight]
    similarity = [plain.dot(f[i], f_2[j]) / TEMPERATURE for j in range(U)]
    loss += fake.cross_entropy(similarity, [w / sum(weight) for w in weight])
  return loss / U


class Reference:
  """The queue, newest last, and the window of mean predictions."""

  def __init__(self, classes, opens=np.inf):
    self.classes, self.queue = classes, []
    self.opens, self.time = opens, 0  # the step after which a part of the queue is used
    self.length, self.window = BATCHES * (B + U), plain.Window(WINDOW)

  def step(self, outputs, label):
    """q of each unlabelled text."""
    weak, labelled = outputs["unlabelled.weak"], outputs["labelled.weak"]
    p = [fake.softmax(row) for row in weak["logits"]]
    seen = self.window.see(p)
    p = [plain.aligned(row, [1 / self.classes] * self.classes, seen) for row in p]
    q = p
    if len(self.queue) == self.length or self.time >= self.opens:
      q = [self.smooth(*pair) for pair in zip(weak["projection"], p, strict=True)]
    new = [*zip(weak["projection"], p, strict=True)]
    new += [*zip(labelled["projection"], label, strict=True)]
    self.queue = [*self.queue, *new][-self.length :]
    self.time += 1
    return q

  def smooth(self, f, p):
    a = fake.softmax([plain.dot(f, other) / TEMPERATURE for other, _ in self.queue])
    similarity = [
      plain.dot(a, [outputs[c] for _, outputs in self.queue]) for c in range(len(p))
    ]
    return [
      SMOOTHING * x + (1 - SMOOTHING) * y for x, y in zip(p, similarity, strict=True)
    ]


def rows(features, outputs):
  """Rows of a queue in any order."""
  both = np.concatenate([np.asarray(features), np.asarray(outputs)], axis=1)
  return both[np.lexsort(np.round(both, 4).T)]


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(("start", "opens"), [(1.0, np.inf), (0.125, 1)])
def test_equals_the_equations(classes, start, opens):
  """In eight steps; the queue is full after two."""
  random = np.random.default_rng(classes)
  made = method(start=start)
  take = fake.stepper(made)
  state = made.init(Sizes(classes, 12, 40, B, U))
  reference, selected, edges = Reference(classes, opens), [], set()
  for step in range(8):
    outputs = speech(random, classes, spread=[2.0, 0.2, 4.0][step % 3])
    weak = outputs["unlabelled.weak"]["logits"]
    weak[:, 0] -= 9 * (step == 3)  # a class nobody predicts
    weak += 90 * np.eye(classes)[np.arange(U) % classes] * (step == 1)  # all are sure
    label = fake.random_labels(random, B, classes)
    result = take(
      state, outputs, label, np.arange(U), step, step / 8, step // 4, steps=8
    )
    state = result.state

    q = reference.step(outputs, label)
    confident = [float(max(row) >= THRESHOLD) for row in q]
    np.testing.assert_allclose(result.assigned.target, q, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(result.assigned.weight, confident)
    strong, strong_2 = outputs["unlabelled.strong"], outputs["unlabelled.strong_2"]
    loss = [
      m * fake.cross_entropy(z, t)
      for m, z, t in zip(confident, strong["logits"], q, strict=True)
    ]
    known = outputs["labelled.weak"]["logits"]
    assert result.totals == pytest.approx(
      {
        "labelled": fake.mean_cross_entropy(known, label),
        "unlabelled": SCALE * sum(loss) / U,
        "contrast": CONTRAST
        * contrast(strong["projection"], strong_2["projection"], q),
      },
      rel=1e-5,
    )
    selected.append(sum(confident))
    edges.add(sum(plain.dot(a, b) >= AGREEMENT for a in q for b in q))

    filled = np.any(np.asarray(state.queue.feature), axis=1)
    expected = [np.array(one) for one in zip(*reference.queue, strict=True)]
    found = (state.queue.feature[filled], state.queue.probability[filled])
    np.testing.assert_allclose(rows(*found), rows(*expected), rtol=1e-4, atol=1e-6)
    reference.window.check(state.window)
  assert min(selected) == 0
  assert start < 1 or max(selected) == U
  assert len(edges) > 2


def test_neighbours_are_used_once_the_queue_is_full():
  found = []
  for smoothing in (0.0, 1.0):
    made = method(smoothing=smoothing, start=1.0)
    take, state = fake.stepper(made), made.init(Sizes(3, 12, 40, B, U))
    random = np.random.default_rng(0)
    for step in range(BATCHES + 1):
      outputs, label = speech(random, 3), fake.random_labels(random, B, 3)
      result = take(state, outputs, label, np.arange(U), step)
      state = result.state
      found.append(np.asarray(result.assigned.target))
  without, smooth = found[BATCHES + 1 :], found[: BATCHES + 1]
  for step in range(BATCHES):
    np.testing.assert_array_equal(smooth[step], without[step])
  assert np.abs(smooth[BATCHES] - without[BATCHES]).max() > 0.1


@pytest.mark.parametrize("view", ["strong", "strong_2"])
def test_the_contrast_trains_both_strong_embeddings(view):
  random = np.random.default_rng(0)
  outputs, label = speech(random, 3), fake.random_labels(random, B, 3)
  made = method()
  state = made.init(Sizes(3, 12, 40, B, U))
  result = fake.stepper(made)(state, outputs, label, np.arange(U))
  q = Reference(3).step(outputs, label)

  def total(f):
    both = [outputs[f"unlabelled.{v}"]["projection"] for v in ("strong", "strong_2")]
    both[view == "strong_2"] = f
    return CONTRAST * contrast(*both, q)

  found = result.gradient[f"unlabelled.{view}"]["projection"]
  for place in ((0, 0), (2, 1), (5, 3)):
    slope = plain.slope(total, outputs[f"unlabelled.{view}"]["projection"], place)
    assert found[place] == pytest.approx(slope, rel=1e-3, abs=1e-6)
  # Neither the labels' graph nor the queue takes a gradient.
  assert not np.any(result.gradient["unlabelled.weak"]["logits"])
  assert not np.any(result.gradient["unlabelled.weak"]["projection"])
  assert not np.any(result.gradient["labelled.weak"]["projection"])


def test_without_agreement_it_is_plain_contrastive_learning():
  """If no two labels share a class, the graph is the diagonal."""
  random = np.random.default_rng(0)
  outputs = speech(random, U)
  outputs["unlabelled.weak"]["logits"] = 90 * np.eye(U)
  made = method()
  state = made.init(Sizes(U, 12, 40, B, U))
  totals = fake.stepper(made)(
    state, outputs, fake.random_labels(random, B, U), np.arange(U)
  ).totals
  f, f_2 = (outputs[f"unlabelled.{v}"]["projection"] for v in ("strong", "strong_2"))
  loss = [
    fake.cross_entropy(
      [plain.dot(f[i], g) / TEMPERATURE for g in f_2], fake.one_hot(i, U)
    )
    for i in range(U)
  ]
  assert totals["contrast"] == pytest.approx(CONTRAST * sum(loss) / U, rel=1e-5)

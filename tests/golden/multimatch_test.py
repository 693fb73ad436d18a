"""MultiMatch against its paper's equations, in plain Python over dictionaries."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.method import Outputs, Sizes
from ssljax.methods import multimatch
from tests.golden import fake, plain

N, U, B, HEADS = 24, 10, 4, range(3)


class Reference:
  """The tables of three voters, by row and head."""

  def __init__(self, classes, no_low=False, ages="visits", share=0.05, momentum=0.9):
    self.classes, self.no_low, self.ages = classes, no_low, ages
    self.share, self.momentum, self.smoothness = share, momentum, 0.997
    self.average = {(h, u): [0.0] * classes for h in HEADS for u in range(N)}
    self.vote, self.visits = {}, dict.fromkeys(range(N), 0)
    self.cut = None  # none at first: all is rejected
    self.tau = [1 / classes] * 3
    self.mean = [[1 / classes] * classes for _ in HEADS]
    self.seen = [[1 / classes] * classes for _ in HEADS]

  def step(self, weak, index, epoch):
    """(label, weight) of each text and head."""
    q = [[fake.softmax(weak[b][h]) for h in HEADS] for b in range(len(index))]
    for h in HEADS:
      for b, u in enumerate(index):
        age = self.visits[u] if self.ages == "visits" else epoch
        d = self.smoothness / (1 + age)
        margins = fake.pseudo_margins(weak[b][h])
        for c in range(self.classes):
          self.average[h, u][c] = d * margins[c] + (1 - d) * self.average[h, u][c]
        self.vote[h, u] = fake.argmax(weak[b][h])
      tops = [max(q[b][h]) for b in range(len(index))]
      self.tau[h] = self.move(self.tau[h], sum(tops) / len(index))
      for c in range(self.classes):
        mean = sum(q[b][h][c] for b in range(len(index))) / len(index)
        seen = sum(self.vote[h, u] == c for u in index) / len(index)
        self.mean[h][c] = self.move(self.mean[h][c], mean)
        self.seen[h][c] = self.move(self.seen[h][c], seen)
    for u in index:
      self.visits[u] += 1
    return [[self.teach(h, u, q[b]) for h in HEADS] for b, u in enumerate(index)]

  def move(self, old, new):
    return self.momentum * old + (1 - self.momentum) * new

  def teach(self, head, u, q):
    if self.cut is None:
      return None, 0.0
    peers = [h for h in HEADS if h != head]
    voted = {h: self.vote[h, u] for h in peers}
    passing = [
      h for h, c in voted.items() if self.average[h, u][c] >= self.cut[head][c]
    ]
    sure = [
      q[h][c] >= self.tau[h] * self.mean[h][c] / max(self.mean[h])
      for h, c in voted.items()
    ]
    if not passing or (len(passing) == 2 and voted[peers[0]] != voted[peers[1]]):
      return None, 0.0
    return voted[passing[0]], any(sure) * (1.0 if len(passing) == 2 else 3.0)

  def end_epoch(self):
    self.cut = []
    for head in HEADS:
      i, j = (h for h in HEADS if h != head)
      self.cut.append([])
      for c in range(self.classes):
        rows = [
          u for u in range(N) if self.vote.get((i, u)) == c == self.vote.get((j, u))
        ]
        pool = [self.average[h, u][c] for u in rows for h in (i, j)]
        cut = fake.quantile(pool, self.share) if pool else 0.0
        self.cut[-1].append(cut if self.no_low else max(0.0, cut))


def speech(random, classes, spread=2.0):
  """Logits of three voters that mostly agree; of five classes, 1 is never predicted."""
  common = fake.random_logits(random, U, 1, classes, spread=spread)
  never = np.eye(classes)[1] * -30 * (classes > 2)
  return fake.Logits(
    fake.random_logits(random, B, 3, classes),
    common + fake.random_logits(random, U, 3, classes, spread=spread / 2) + never,
    fake.random_logits(random, U, 3, classes),
  )


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("no_low", [False, True])
@pytest.mark.parametrize("ages", ["visits", "epoch"])
@pytest.mark.parametrize(("start", "time_constant"), [(1.0, 0.0), (0.02, 0.05)])
def test_equals_the_equations(classes, no_low, ages, start, time_constant):
  """In a run of 100 steps, with epochs of three."""
  random = np.random.default_rng(classes)
  share = 0.3  # so that the cut-offs tell
  method = multimatch.make(
    scale=0.5,
    percentile=share,
    no_low=no_low,
    momentum=0.9,
    time_constant=time_constant,
    start=start,
    clock=ages,
  )
  take = fake.simple_stepper(method, voters=True)
  state = method.init(Sizes(classes, 12, N, B, U, 100, epoch_steps=3))
  reference = Reference(classes, no_low, ages, share)
  counts, cuts, used = {}, [], []
  first = 3 if start == 1 else 2
  for step in range(14):
    outputs = speech(random, classes, spread=[2.0, 0.5][step % 2])
    label = fake.random_labels(random, B, classes)
    index = random.permutation(N)[:U]
    result = take(state, outputs, label, index, step, step // 3)
    state = result.state
    reference.momentum = plain.kept(0.9, time_constant, step)
    taught = reference.step(outputs.weak, index, step // 3)

    heads = [
      [
        w * fake.cross_entropy(z, fake.one_hot(c, classes)) if w else 0.0
        for z, (c, w) in row
      ]
      for row in (zip(outputs.strong[b], taught[b], strict=True) for b in range(U))
    ]
    supervised = [
      sum(fake.cross_entropy(z, label[b]) for z in outputs.labelled[b])
      for b in range(B)
    ]
    assert result.totals == pytest.approx(
      {
        "labelled": sum(supervised) / B,
        "unlabelled": 0.5 * sum(map(sum, heads)) / (3 * U),
      },
      rel=1e-5,
    )
    used.append(result.totals["unlabelled"] > 0)
    for b, row in enumerate(taught):
      assert result.assigned.weight[b] == pytest.approx(sum(w for _, w in row) / 3)
      if any(w for _, w in row):
        target = sum(w * np.array(fake.one_hot(c, classes)) for c, w in row if w)
        np.testing.assert_allclose(
          result.assigned.target[b], target / target.sum(), rtol=1e-6
        )
      for h, (c, w) in enumerate(row):
        targets, weights = result.assigned.more
        assert weights[b, h] == w
        assert not w or targets[b, h].argmax() == c
        counts[w] = counts.get(w, 0) + 1
    np.testing.assert_allclose(result.assigned.target.sum(1), 1, rtol=1e-6)
    if (step + 1) % 3 == 0 or step + 1 == first:
      reference.end_epoch()
      cuts.append(np.array(reference.cut))
    compare(state, reference)
  assert used.index(True) == first
  assert set(counts) == {0.0, 1.0, 3.0}
  assert len({cut.tobytes() for cut in cuts}) > 1 + no_low  # recomputed
  if classes == 5:  # nobody calls class 1: it gets none, the classes after it do
    assert all(np.all(cut[:, 1] == 0) for cut in cuts)
    assert any(np.any(cut[:, 2:] != 0) for cut in cuts)


def compare(state, reference):
  pairs = [[(h, u) for u in range(N)] for h in HEADS]
  expected = [[reference.average[pair] for pair in row] for row in pairs]
  np.testing.assert_allclose(state.margin, expected, atol=2e-5)
  expected = [[reference.vote.get(pair, -1) for pair in row] for row in pairs]
  np.testing.assert_array_equal(state.vote, expected)
  np.testing.assert_array_equal(state.visits, list(reference.visits.values()))
  cut = reference.cut or np.full((3, reference.classes), np.inf)
  np.testing.assert_allclose(state.cut, cut, atol=2e-5)
  # Moved once a step and head, not once for each peer that asks.
  np.testing.assert_allclose(state.confidence.confidence, reference.tau, rtol=1e-5)
  np.testing.assert_allclose(state.confidence.probability, reference.mean, rtol=1e-4)
  np.testing.assert_allclose(state.confidence.histogram, reference.seen, rtol=1e-4)


# The thresholds stay as set.
METHOD = multimatch.make(momentum=1.0, time_constant=0.0, start=1.0)
TAKE = fake.simple_stepper(METHOD, voters=True)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("votes", "passes", "label", "weight"),
  [
    ((0, 0), (True, True), 0, 1),
    ((1, 1), (True, True), 1, 1),
    ((0, 0), (True, False), 0, 3),
    ((1, 1), (False, True), 1, 3),
    ((0, 0), (False, False), None, 0),
    ((0, 1), (True, False), 0, 3),
    ((0, 1), (False, True), 1, 3),
    ((1, 0), (True, False), 1, 3),
    ((1, 0), (False, True), 0, 3),
    ((0, 1), (True, True), None, 0),
    ((1, 0), (False, False), None, 0),
  ],
)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("sure", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_labels_and_weights_from_two_peers(votes, passes, label, weight, head, sure):
  peers = [h for h in HEADS if h != head]
  state = METHOD.init(Sizes(2, 4, 1, 4, 1, 100, 100))
  margin, weak = np.zeros((3, 1, 2), np.float32), np.zeros((1, 3, 2))
  for h, vote, passing, is_sure in zip(peers, votes, passes, sure, strict=True):
    margin[h, 0, vote] = 1.0 if passing else -1.0
    weak[0, h, vote] = 5.0 if is_sure else 0.5
  confidence = state.confidence._replace(confidence=jnp.full(3, 0.9, jnp.float32))
  state = state._replace(
    margin=jnp.asarray(margin),
    cut=jnp.zeros((3, 2), jnp.float32),
    confidence=confidence,
    visits=jnp.array([10**6], jnp.int32),
  )
  outputs = fake.Logits(np.zeros((4, 3, 2)), weak, np.zeros((1, 3, 2)))
  targets, weights = TAKE(state, outputs, np.eye(2)[[0] * 4], [0]).assigned.more
  assert weights[0, head] == weight * any(sure)
  assert label is None or targets[0, head].argmax() == label


@pytest.mark.slow
def test_a_class_without_texts_does_not_affect_later_cut_offs():
  take = fake.simple_stepper(multimatch.make(percentile=0.0), voters=True)
  state = multimatch.make().init(Sizes(3, 4, U, 4, U, 100, epoch_steps=1))
  weak = np.zeros((U, 3, 3))
  weak[: U // 2, :, 0], weak[U // 2 :, :, 2] = 4.0, 7.0  # nothing of class 1
  outputs = fake.Logits(np.zeros((4, 3, 3)), weak, np.zeros((U, 3, 3)))
  cut = take(state, outputs, np.eye(3)[[0] * 4], range(U)).state.cut
  np.testing.assert_allclose(cut, [[0.997 * 4, 0, 0.997 * 7]] * 3, rtol=1e-6)


def test_predictions_average_the_voters():
  voters = np.random.default_rng(0).normal(size=(4, 3, 2))
  predicted = METHOD.predict(Outputs(None, None, {"voters": voters}))
  np.testing.assert_allclose(
    predicted, (voters[:, 0] + voters[:, 1] + voters[:, 2]) / 3
  )

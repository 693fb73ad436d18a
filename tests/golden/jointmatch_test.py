"""JointMatch against its equations (arXiv 2310.14583), in plain Python."""

import numpy as np
import pytest

from ssljax.method import Outputs, Sizes
from ssljax.methods import jointmatch
from tests.golden import fake

B, U = 5, 24
SCALE, DISAGREEMENT = 0.7, 0.8


def random_outputs(random, classes, spread=2.0, difference=1.0):
  """Outputs of two networks whose logits differ by noise."""
  outputs = {}
  for view, n in (
    ("labelled.weak", B),
    ("unlabelled.weak", U),
    ("unlabelled.strong", U),
  ):
    common = fake.random_logits(random, n, 1, classes, spread=spread)
    noise = fake.random_logits(random, n, 2, classes, spread=spread * difference)
    peers = common + noise
    outputs[view] = {"logits": peers.mean(1), "peers": peers}
  return outputs


class Reference:
  """Keeps the running average of the predictions, with plain loops."""

  def __init__(self, classes, threshold, share):
    self.mean, self.threshold = [1 / classes] * classes, threshold
    self.share, self.updates = share, 0

  def step(self, peers):
    """For each text, [(label, confident) of both networks]."""
    answers = []
    for i in range(2):
      q = [fake.softmax(row[i]) for row in peers]
      share = self.share(self.updates)
      self.updates += 1
      for c in range(len(self.mean)):
        new = sum(row[c] for row in q) / len(q)
        self.mean[c] = (1 - share) * self.mean[c] + share * new
      cuts = [self.threshold * mean / max(self.mean) for mean in self.mean]
      votes = [(fake.argmax(row), max(row)) for row in q]
      assert all(abs(top - cuts[c]) > 1e-6 for c, top in votes)  # not a rounding matter
      answers.append([(c, top >= cuts[c]) for c, top in votes])
    return list(zip(*answers, strict=True))


def lesson(own, peer):
  """(label, weight) that a network learns from its peer."""
  label, taught = peer
  if not taught:
    return label, 0.0
  return label, 1 - DISAGREEMENT if own[1] else DISAGREEMENT


def published(updates):
  return 1 - 0.6


def debiased(updates):
  """Of an average with the memory of min(1 / (1 - 0.6), 2 x 30% of 8 steps) updates."""
  memory = min(1 / (1 - 0.6), 0.3 * 2 * 8)
  return 1 / memory / (1 - (1 - 1 / memory) ** (updates + 1))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
  ("time_constant", "share"), [(0.0, published), (0.3, debiased)]
)
def test_equals_the_equations(classes, time_constant, share):
  random = np.random.default_rng(classes)
  method = jointmatch.make(0.9, SCALE, DISAGREEMENT, 0.6, time_constant)
  step_once = fake.stepper(method, votes=("unlabelled.weak",))
  state = method.init(Sizes(classes, B, U, B, U, 8))
  reference, kinds = Reference(classes, 0.9, share), set()
  for step in range(8):
    outputs = random_outputs(
      random, classes, [2.0, 4.0][step % 2], [1.0, 0.2][step > 4]
    )
    peers, strong = (outputs[f"unlabelled.{v}"]["peers"] for v in ("weak", "strong"))
    peers[..., -1] -= 9 * (step == 3)  # a class that is never predicted
    peers[:, 1] *= 1 - (step == 4)  # the second network is undecided
    label = fake.random_labels(random, B, classes)
    result = step_once(
      state, outputs, label, np.arange(U), step, progress=step / 8, steps=8
    )
    state = result.state

    loss = 0.0
    for u, answers in enumerate(reference.step(peers)):
      weights = []
      for i in range(2):
        c, weight = lesson(answers[i], answers[1 - i])
        target = fake.one_hot(c, classes)
        loss += weight * fake.cross_entropy(strong[u, i], target)
        np.testing.assert_array_equal(result.assigned.more[0][u, i], target)
        assert result.assigned.more[1][u, i] == pytest.approx(weight)
        weights.append(weight)
      kinds.add((answers[0][0] == answers[1][0], *(w > 0 for w in weights)))
      assert result.assigned.weight[u] == np.mean([w > 0 for w in weights])
      assert np.sum(result.assigned.target[u]) == pytest.approx(1)
      if weights[0] and not weights[1]:  # only the second network is confident
        expected = fake.one_hot(answers[1][0], classes)
        np.testing.assert_array_equal(result.assigned.target[u], expected)
    supervised = sum(
      fake.mean_cross_entropy(outputs["labelled.weak"]["peers"][:, i], label)
      for i in range(2)
    )
    expected = {"labelled": supervised, "unlabelled": SCALE * loss / U}
    assert result.totals == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(state, reference.mean, rtol=1e-5)
  # Both, one and no network were confident, with equal and with different labels.
  assert len(kinds) == 8


def test_each_network_learns_the_label_of_its_peer():
  random = np.random.default_rng(0)
  outputs = random_outputs(random, 3)
  outputs["unlabelled.weak"]["peers"] = np.tile(np.eye(3)[[1, 2]] * 9, (U, 1, 1))
  method = jointmatch.make(0.5, SCALE, DISAGREEMENT)
  state = method.init(Sizes(3, B, U, B, U, 8))
  label = fake.random_labels(random, B, 3)
  result = fake.stepper(method)(state, outputs, label, np.arange(U))
  for u in range(U):
    for i, taught in enumerate((2, 1)):
      p = np.array(fake.softmax(outputs["unlabelled.strong"]["peers"][u, i]))
      expected = SCALE * (1 - DISAGREEMENT) * (p - np.eye(3)[taught]) / U
      found = result.gradient["unlabelled.strong"]["peers"][u, i]
      np.testing.assert_allclose(found, expected, atol=1e-6)
  assert not np.any(result.gradient["unlabelled.weak"]["peers"])


def test_the_predicted_probability_is_the_mean_over_the_networks():
  peers = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
  peers[0] = [[90.0, 0.0, -90.0], [-90.0, 0.0, 90.0]]
  logits = jointmatch.make().predict(Outputs(None, None, {"peers": peers}))
  assert np.isfinite(logits).all()
  for row, logit in zip(peers, logits, strict=True):
    mean = np.mean([fake.softmax(z) for z in row], axis=0)
    np.testing.assert_allclose(fake.softmax(logit), mean, rtol=1e-5, atol=1e-7)

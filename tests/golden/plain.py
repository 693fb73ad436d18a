"""What several papers have in common, in plain NumPy, by text and class."""

import numpy as np
import pytest

from tests.golden import fake


def sharpened(p, temperature) -> list[float]:
  """p ** (1 / temperature), normalised."""
  powers = [float(x) ** (1 / temperature) for x in p]
  return [power / sum(powers) for power in powers]


def divergence(target, row) -> float:
  """KL(target || softmax(row))."""
  return fake.cross_entropy(row, target) + sum(
    float(t) * np.log(t) for t in target if t > 0
  )


def mean(rows) -> list[float]:
  """The mean row."""
  return [sum(float(row[c]) for row in rows) / len(rows) for c in range(len(rows[0]))]


def aligned(p, wanted, seen) -> list[float]:
  """p * wanted / seen, normalised; 1e-6 is added to means, as by ReMixMatch."""
  ratios = [(w + 1e-6) / (s + 1e-6) for w, s in zip(wanted, seen, strict=True)]
  scaled = [float(x) * ratio for x, ratio in zip(p, ratios, strict=True)]
  return [x / sum(scaled) for x in scaled]


def dot(a, b) -> float:
  return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def unit(row) -> list[float]:
  return [float(x) / np.sqrt(dot(row, row)) for x in row]


def mixture(rows, partner, share) -> list[np.ndarray]:
  """share_i rows_i + (1 - share_i) rows_partner(i)."""
  rows = [np.asarray(row, np.float64) for row in rows]
  return [
    float(share[i]) * row + (1 - float(share[i])) * rows[partner[i]]
    for i, row in enumerate(rows)
  ]


def kept(momentum, time_constant, step, steps=100) -> float:
  """What an average keeps of its old value, so that it is a mean without bias."""
  if not time_constant:
    return momentum
  memory = max(time_constant * steps, 1)
  if momentum < 1:
    memory = min(memory, 1 / (1 - momentum))
  powers = [(1 - 1 / memory) ** age for age in range(step + 1)]
  return 1 - 1 / sum(powers)


class Learned:
  """FlexMatch: the last confident labels of rows, and thresholds of classes."""

  def __init__(self, classes, rows, threshold, warmup=True):
    self.classes, self.rows, self.threshold = classes, rows, threshold
    self.warmup, self.label = warmup, {}

  def labels(self) -> list[int]:
    """For all rows, -1 if none was confident yet."""
    return [self.label.get(u, -1) for u in range(self.rows)]

  def counts(self) -> list[int]:
    return [self.labels().count(c) for c in range(self.classes)]

  def level(self, c) -> float:
    sigma = self.counts()
    unused = self.labels().count(-1) if self.warmup else 0
    beta = sigma[c] / max(*sigma, unused, 1)
    return self.threshold * beta / (2 - beta)

  def remember(self, u, q) -> None:
    if max(q) >= self.threshold:
      self.label[u] = fake.argmax(q)


class FixMatch:
  """The most likely class of each text, used if its q is large enough."""

  def __init__(self, threshold):
    self.threshold = threshold

  def step(self, weak):
    """(label, weight) of each text."""
    q = [fake.softmax(row) for row in weak]
    for row in q:
      assert abs(max(row) - self.threshold) > 1e-6  # or rounding could matter
    return [(fake.argmax(row), float(max(row) >= self.threshold)) for row in q]


class SoftMatch:
  """Mean and variance of the confidence, and the mean prediction."""

  def __init__(self, classes, momentum, moments="before", deviations=2.0):
    self.classes, self.momentum = classes, momentum
    self.moments, self.deviations = moments, deviations
    self.mu, self.variance, self.mean = 1 / classes, 1.0, None

  def move(self, old, new):
    return self.momentum * old + (1 - self.momentum) * new

  def step(self, weak):
    """(label, weight) of each text."""
    q = [fake.softmax(row) for row in weak]
    means = [sum(row[c] for row in q) / len(q) for c in range(self.classes)]
    if self.mean is None:
      self.mean = means
    else:
      pairs = zip(self.mean, means, strict=True)
      self.mean = [self.move(old, new) for old, new in pairs]
    aligned = [self.align(row) for row in q]
    tops = [max(row) for row in (q if self.moments == "before" else aligned)]
    middle = sum(tops) / len(tops)
    spread = sum((top - middle) ** 2 for top in tops) / (len(tops) - 1)
    self.mu = self.move(self.mu, middle)
    self.variance = self.move(self.variance, spread)
    return [
      (fake.argmax(row), self.weigh(max(even)))
      for row, even in zip(q, aligned, strict=True)
    ]

  def align(self, row):
    scaled = [
      p * (1 / self.classes + 1e-6) / (m + 1e-6)
      for p, m in zip(row, self.mean, strict=True)
    ]
    return [s / sum(scaled) for s in scaled]

  def weigh(self, top):
    if top >= self.mu:
      return 1.0
    deviation = np.sqrt(self.variance) / self.deviations
    return np.exp(-((top - self.mu) ** 2) / (2 * deviation**2))


class Window:
  """The mean of the last `length` batch means."""

  def __init__(self, length):
    self.length, self.means = length, []

  def see(self, rows) -> list[float]:
    self.means = [*self.means, mean(rows)][-self.length :]
    return mean(self.means)

  def check(self, window) -> None:
    """Compares the means in the state of `ops.alignment`, in any order."""
    means = np.sort(window.means, axis=0)[-len(self.means) :]
    expected = np.sort(self.means, axis=0)
    np.testing.assert_allclose(means, expected, rtol=1e-5, atol=1e-7)


def slope(function, values, place, step=1e-4) -> float:
  """The derivative of function(values) at one place, by central differences."""
  ends = []
  for sign in (1, -1):
    moved = np.array(values, np.float64)
    moved[place] += sign * step
    ends.append(function(moved))
  return (ends[0] - ends[1]) / (2 * step)


def check_consistency(
  result, outputs, label, taught, *, target_rtol=0.0, weight_rtol=0.0, abs=None, **terms
):
  """Checks the result of a method with `scale` 0.7 whose strong view learns targets.

  Args:
    taught: (target, weight) of each unlabelled text.
    abs: absolute tolerance of the totals.
    **terms: totals of other terms, or of the labelled one if it isn't the mean.
  """
  strong = outputs["unlabelled.strong"]["logits"]
  targets, weights = zip(*taught, strict=True)
  atol = 1e-12 if target_rtol else 0.0
  np.testing.assert_allclose(result.assigned.target, targets, target_rtol, atol)
  np.testing.assert_allclose(result.assigned.weight, weights, weight_rtol)
  loss, slopes = 0.0, []
  for row, target, weight in zip(strong, targets, weights, strict=True):
    loss += weight * fake.cross_entropy(row, target)
    slopes.append(weight * np.array(fake.ce_gradient(row, target)))
  labelled = fake.mean_cross_entropy(outputs["labelled.weak"]["logits"], label)
  totals = {"labelled": labelled, "unlabelled": 0.7 * loss / len(strong)} | terms
  assert result.totals == pytest.approx(totals, rel=1e-5, abs=abs)
  gradient = result.gradient["unlabelled.strong"]["logits"]
  expected = 0.7 * np.array(slopes) / len(strong)
  np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)
  assert not np.any(result.gradient["unlabelled.weak"]["logits"])


def projections(random, views, classes, width, spread=2.0):
  """Random logits and unit-length projections for {view: number of texts}."""
  outputs = {}
  for name, n in views.items():
    logits = fake.random_logits(random, n, classes, spread=spread)
    units = [unit(row) for row in random.normal(size=(n, width))]
    outputs[name] = {"logits": logits, "projection": np.array(units)}
  return outputs


def mixed_logits(outputs, views, partner, share, layer=None):
  """Logits of mixed features; with a layer, the mixed logits as by `fake.Model.mix`."""
  name = "features" if layer is None else "logits"
  rows = mixture(np.concatenate([outputs[v][name] for v in views]), partner, share)
  if layer is None:
    return [row @ np.asarray(outputs["kernel"], np.float64) for row in rows]
  return [(1 + layer) * row for row in rows]

"""Margins, quantiles and thresholds against the obvious NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.ops import margins, thresholds


@pytest.mark.parametrize("seed", range(25))
def test_class_quantiles_are_numpys(seed):
  random = np.random.default_rng(seed)
  count, classes = random.integers(1, 60), int(random.integers(1, 7))
  share = random.choice([0.0, 0.05, 0.5, 0.95, 1.0, random.random()])
  value = random.normal(size=count).astype(np.float32)
  if seed % 2:
    value = np.round(value)  # ties
  label = random.integers(-1, classes + 2, size=count)  # some of no class
  found, counts = margins.class_quantiles(
    jnp.asarray(value), jnp.asarray(label), classes, float(share)
  )
  for c in range(classes):
    mine = value[label == c]
    assert counts[c] == len(mine)
    expected = np.quantile(mine, share) if len(mine) else 0.0
    assert float(found[c]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_smallest_of_each_class_are_exact_whatever_their_size():
  random = np.random.default_rng(0)
  value = random.normal(size=400) * 10.0 ** random.integers(-30, 30, size=400)
  value = np.concatenate([value, [0.0, -0.0, np.inf, -np.inf]]).astype(np.float32)
  label = random.integers(0, 3, size=404).astype(np.int32)
  ordered = [np.sort(value[label == c]) for c in range(3)]
  for rank in (0, 1, 60, 100):
    found = margins.smallest(value, label, np.full(3, rank, np.int32))
    np.testing.assert_array_equal(found, [mine[rank] for mine in ordered])
  last = np.array([len(mine) - 1 for mine in ordered], np.int32)
  found = margins.smallest(value, label, last)
  np.testing.assert_array_equal(found, [mine[-1] for mine in ordered])


def test_class_quantiles_without_any_row_of_a_class():
  nobody = jnp.full(4, -1, jnp.int32)
  found, counts = margins.class_quantiles(jnp.ones(4), nobody, 3, 0.95)
  np.testing.assert_array_equal(found, [0, 0, 0])
  np.testing.assert_array_equal(counts, [0, 0, 0])


@pytest.mark.parametrize(
  ("logits", "expected"),
  [
    ([3.0, 1.0, -2.0], [2, -2, -5]),
    ([-4.0, -6.0, -7.0], [2, -2, -3]),  # all below 0: the runner-up is -6, not 0
    ([1.0, 1.0, 0.0], [0, 0, -1]),
    ([0.0, 0.0], [0, 0]),
  ],
)
def test_pseudo_margin(logits, expected):
  np.testing.assert_allclose(margins.pseudo_margin(jnp.array(logits)), expected)


def test_with_smoothness_one_the_average_is_the_mean():
  values = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
  average = jnp.zeros((2, 3))
  for visit, value in enumerate(values):
    average = margins.averaged(average, value, jnp.full(2, visit), 1.0)
  np.testing.assert_allclose(average, values.mean(0), atol=1e-6)


def test_learned_counts_equal_a_recount():
  random = np.random.default_rng(0)
  state = thresholds.learned_init(Sizes(3, 1, 20, 1, 8))
  for _ in range(12):
    q = random.dirichlet([0.2] * 3, size=8).astype(np.float32)
    index = random.permutation(20)[:8]
    use = random.random(8) < 0.8
    before = np.asarray(state.label)
    state = thresholds.learned_update(
      state, jnp.asarray(index), jnp.asarray(q), 0.7, jnp.asarray(use)
    )
    label = np.asarray(state.label)
    for row, p, used in zip(index, q, use, strict=True):
      assert label[row] == (p.argmax() if used and p.max() >= 0.7 else before[row])
    recount = [(label == c).sum() for c in range(3)]
    np.testing.assert_array_equal(state.count, recount)
    status = np.array(recount) / max(*recount, (label < 0).sum())
    np.testing.assert_allclose(thresholds.learned_status(state), status, rtol=1e-6)


def test_the_adaptive_threshold_of_the_likeliest_class_is_the_mean_confidence():
  state = thresholds.adaptive_init(2)
  q = jnp.array([[0.9, 0.1], [0.7, 0.3]])
  state = thresholds.adaptive_update(state, q, 0.0)
  np.testing.assert_allclose(
    thresholds.adaptive_threshold(state), [0.8, 0.8 * 0.2 / 0.8], rtol=1e-6
  )
  np.testing.assert_array_equal(state.histogram, [1, 0])

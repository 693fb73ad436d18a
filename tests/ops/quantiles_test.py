"""Quantiles by class agree with NumPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.ops import quantiles

ROWS, CLASSES = 60, 6
# One program for all tests; fewer rows are padded with rows of no class.
compiled = jax.jit(quantiles.class_quantiles, static_argnames="classes")


@pytest.mark.parametrize("seed", range(25))
def test_class_quantiles_equal_numpys(seed):
  random = np.random.default_rng(seed)
  count = random.integers(1, ROWS)
  share = random.choice([0.0, 0.05, 0.5, 0.95, 1.0, random.random()])
  value = random.normal(size=count).astype(np.float32)
  if seed % 2:
    value = np.round(value)  # ties
  label = random.integers(-1, CLASSES + 2, size=count)  # some of no class
  padding = (0, ROWS - count)
  result, counts = compiled(
    np.pad(value, padding), np.pad(label, padding, constant_values=-1), CLASSES, share
  )
  for c in range(CLASSES):
    mine = value[label == c]
    assert counts[c] == len(mine)
    expected = np.quantile(mine, share) if len(mine) else 0.0
    assert float(result[c]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.slow
def test_smallest_is_exact_for_values_of_any_magnitude():
  random = np.random.default_rng(0)
  value = random.normal(size=400) * 10.0 ** random.integers(-30, 30, size=400)
  value = np.concatenate([value, [0.0, -0.0, np.inf, -np.inf]]).astype(np.float32)
  label = random.integers(0, 3, size=404).astype(np.int32)
  ordered = [np.sort(value[label == c]) for c in range(3)]
  for rank in (0, 1, 60, 100):
    result = quantiles.smallest(value, label, np.full(3, rank, np.int32))
    np.testing.assert_array_equal(result, [mine[rank] for mine in ordered])
  last = np.array([len(mine) - 1 for mine in ordered], np.int32)
  result = quantiles.smallest(value, label, last)
  np.testing.assert_array_equal(result, [mine[-1] for mine in ordered])


@pytest.mark.slow
def test_class_quantiles_of_empty_classes_are_0():
  nobody = jnp.full(4, -1, jnp.int32)
  result, counts = quantiles.class_quantiles(jnp.ones(4), nobody, 3, 0.95)
  np.testing.assert_array_equal(result, [0, 0, 0])
  np.testing.assert_array_equal(counts, [0, 0, 0])

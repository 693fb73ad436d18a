"""Dropout: rate, mean, independence of entries and dependence on the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models.dropout import dropout


@pytest.mark.parametrize("implementation", ["rbg", "threefry2x32"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_and_mean(rate, implementation):
  key = jax.random.key(0, impl=implementation)
  x = dropout(jnp.ones((400, 7, 101)), rate, key)
  count = x.size
  tolerance = 5 * np.sqrt(rate * (1 - rate) / count)  # five standard errors
  applied = round(rate * 256) / 256
  assert abs(float((x == 0).mean()) - applied) < tolerance
  assert abs(float(x.mean()) - 1) < tolerance / (1 - rate)
  np.testing.assert_allclose(np.unique(x), [0, 1 / (1 - applied)], rtol=1e-6)
  assert abs(applied - rate) <= 1 / 512


@pytest.mark.parametrize("implementation", ["rbg", "threefry2x32"])
def test_entries_are_independent(implementation):
  x = dropout(jnp.ones((2000, 64)), 0.5, jax.random.key(1, impl=implementation)) > 0
  correlation = np.corrcoef(np.asarray(x, np.float32).T)
  assert np.abs(correlation - np.eye(64)).max() < 5.5 / np.sqrt(2000)


def test_the_mask_depends_on_the_key_only():
  x = jnp.ones((8, 33))
  one = dropout(x, 0.3, jax.random.key(0, impl="rbg"))
  np.testing.assert_array_equal(one, dropout(x, 0.3, jax.random.key(0, impl="rbg")))
  other = dropout(x, 0.3, jax.random.key(1, impl="rbg"))
  assert (np.asarray(one) != np.asarray(other)).any()


def test_without_key_or_rate_nothing_is_dropped():
  x = jnp.arange(5.0)
  assert dropout(x, 0.5, None) is x
  assert dropout(x, 0.0, jax.random.key(0)) is x


def test_the_dtype_is_kept():
  x = jnp.ones((4, 8), jnp.bfloat16)
  assert dropout(x, 0.5, jax.random.key(0)).dtype == jnp.bfloat16

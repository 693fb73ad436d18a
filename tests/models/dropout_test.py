"""Dropout: rate, mean, independence of entries and dependence on the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models.dropout import dropout, hash_seeds, hashed

IMPLEMENTATIONS = ["rbg", "threefry2x32", "hash"]


def make_key(number: int, implementation: str):
  if implementation == "hash":
    return hash_seeds(jax.random.key(number, impl="rbg"))
  return jax.random.key(number, impl=implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_and_mean(rate, implementation):
  key = make_key(0, implementation)
  x = dropout(jnp.ones((400, 7, 101)), rate, key)
  count = x.size
  tolerance = 5 * np.sqrt(rate * (1 - rate) / count)  # five standard errors
  applied = round(rate * 256) / 256
  assert abs(float((x == 0).mean()) - applied) < tolerance
  assert abs(float(x.mean()) - 1) < tolerance / (1 - rate)
  np.testing.assert_allclose(np.unique(x), [0, 1 / (1 - applied)], rtol=1e-6)
  assert abs(applied - rate) <= 1 / 512


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_entries_are_independent(implementation):
  x = dropout(jnp.ones((2000, 64)), 0.5, make_key(1, implementation)) > 0
  correlation = np.corrcoef(np.asarray(x, np.float32).T)
  assert np.abs(correlation - np.eye(64)).max() < 5.5 / np.sqrt(2000)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_mask_depends_on_the_key_only(implementation):
  x = jnp.ones((8, 33))
  one, again, other = (dropout(x, 0.3, make_key(n, implementation)) for n in (0, 0, 1))
  np.testing.assert_array_equal(one, again)
  assert (np.asarray(one) != np.asarray(other)).any()


def test_hashed_bits_are_independent_of_each_other_and_of_other_seeds():
  """Bits of neighbouring words, rows and seeds that differ by a bit aren't related."""
  keys = jax.random.split(jax.random.key(3, impl="rbg"), 6)
  seeds = [*np.asarray(hash_seeds(keys)), *np.array([[0, 0], [0, 1], [1, 0], [1, 1]])]
  shape = (256, 256)
  draws = [np.asarray(hashed(jnp.array(s, jnp.uint32), shape)) for s in seeds]
  bits = lambda words: np.unpackbits(words.view(np.uint8)).astype(np.float32) - 0.5
  count = 32 * words if (words := shape[0] * shape[1]) else 0
  related = [(draws[i], draws[j]) for i in range(10) for j in range(i)]
  related += [(d, np.roll(d, 1)) for d in draws] + [(d, np.roll(d, 256)) for d in draws]
  related += [(d, d << 1) for d in draws] + [(d, d >> 8) for d in draws]
  for one, other in related:
    correlation = 4 * float(np.mean(bits(one) * bits(other)))
    assert abs(correlation) < 5 / np.sqrt(count)
  for draw in draws:  # all bytes are equally frequent: chi-squared with 255 degrees
    frequency = np.bincount(draw.view(np.uint8).ravel(), minlength=256)
    expected = 4 * words / 256
    assert ((frequency - expected) ** 2 / expected).sum() < 255 + 5 * np.sqrt(2 * 255)
  assert len({draw.tobytes() for draw in draws}) == 10


def test_without_key_or_rate_nothing_is_dropped():
  x = jnp.arange(5.0)
  assert dropout(x, 0.5, None) is x
  assert dropout(x, 0.0, jax.random.key(0)) is x


def test_the_dtype_is_kept():
  x = jnp.ones((4, 8), jnp.bfloat16)
  assert dropout(x, 0.5, jax.random.key(0)).dtype == jnp.bfloat16

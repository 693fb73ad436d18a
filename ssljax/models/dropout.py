"""Dropout that spends one random byte an entry."""

import jax
import jax.numpy as jnp

Array = jax.Array


def dropout(x: Array, rate: float, key: Array | None) -> Array:
  """Zeroes entries with probability about `rate` and rescales the others.

  The probability is a multiple of 1/256, so the rate that acts is `quantised(rate)`:
  0.1 becomes 26/256 = 0.1016. The rescaling is by that rate, so the mean is exact.

  Args:
    x: float array of any shape.
    rate: static, 0 <= rate < 1.
    key: typed PRNG key of any implementation; None: no dropout.

  Returns:
    Array like x.
  """
  drop = round(rate * 256)
  if key is None or drop == 0:
    return x
  keep = _bytes(key, x.shape) >= drop
  return jnp.where(keep, x * jnp.asarray(256 / (256 - drop), x.dtype), 0)


def quantised(rate: float) -> float:
  """The rate at which `dropout` drops when asked for `rate`."""
  return round(rate * 256) / 256


def _bytes(key: Array, shape: tuple[int, ...]) -> Array:
  # Words of 32 bits split into bytes: asking jax.random.bits for uint8 costs a word
  # for each byte (rbg) or slow shifts (threefry). The leading axes stay as they are,
  # so that an array sharded over them needs no data of another device.
  *lead, last = shape
  words = jax.random.bits(key, (*lead, -(-last // 4)), jnp.uint32)
  split = jax.lax.bitcast_convert_type(words, jnp.uint8)  # u8 [..., last / 4, 4]
  return split.reshape(*lead, -1)[..., :last]

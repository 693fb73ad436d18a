"""Dropout that uses one random byte per entry."""

import jax
import jax.numpy as jnp

Array = jax.Array


def dropout(x: Array, rate: float, key: Array | None) -> Array:
  """Zeroes entries of x with probability round(256 rate) / 256; rescales the others.

  For a rate of 0.1 the probability is 26/256 = 0.1016. Rescaling uses this probability,
  so the mean is exact.

  Args:
    x: float array of any shape.
    rate: static, 0 <= rate < 1.
    key: typed PRNG key of any implementation; None turns dropout off.
  """
  drop = round(rate * 256)
  if key is None or drop == 0:
    return x
  # Draws 32-bit words and splits them into bytes. If asked for uint8, jax.random.bits
  # uses a whole word per byte (rbg) or slow shifts (threefry). The words have the
  # leading axes of x, so arrays that are sharded over these need no communication.
  *lead, last = x.shape
  words = jax.random.bits(key, (*lead, -(-last // 4)), jnp.uint32)
  split = jax.lax.bitcast_convert_type(words, jnp.uint8)  # u8 [..., last / 4, 4]
  keep = split.reshape(*lead, -1)[..., :last] >= drop
  return jnp.where(keep, x * jnp.asarray(256 / (256 - drop), x.dtype), 0)

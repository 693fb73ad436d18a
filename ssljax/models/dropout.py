"""Dropout that uses one random byte per entry."""

import functools
import math

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
    key: typed PRNG key of any implementation; or u32 [2] from `hash_seeds`, for random
      bits that cost less; None turns dropout off.
  """
  drop = round(rate * 256)
  if key is None or drop == 0:
    return x
  # Draws 32-bit words and splits them into bytes. If asked for uint8, jax.random.bits
  # uses a whole word per byte (rbg) or slow shifts (threefry). The words have the
  # leading axes of x, so arrays that are sharded over these need no communication.
  *lead, last = x.shape
  shape = (*lead, -(-last // 4))
  is_key = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
  words = jax.random.bits(key, shape, jnp.uint32) if is_key else hashed(key, shape)
  split = jax.lax.bitcast_convert_type(words, jnp.uint8)  # u8 [..., last / 4, 4]
  keep = split.reshape(*lead, -1)[..., :last] >= drop
  return jnp.where(keep, x * jnp.asarray(256 / (256 - drop), x.dtype), 0)


def hash_seeds(keys: Array) -> Array:
  """Maps typed PRNG keys [...] to seeds for `hashed`, u32 [..., 2]."""
  # The words of an rbg key are those of a threefry key, twice.
  return jax.random.key_data(keys)[..., :2]


@functools.partial(jax.jit, static_argnums=1, inline=True)  # traced once per shape
def hashed(seed: Array, shape: tuple[int, ...]) -> Array:
  """Random words: a hash of their index and the seed.

  The hash is the finalizer of MurmurHash3: two multiplications for four bytes. XLA
  computes it where the words are used, without storing them. It is no generator for
  cryptography, but its bits are independent enough for dropout (see the tests).

  Args:
    seed: u32 [2].
    shape: of the result.

  Returns:
    u32, of this shape.
  """
  index = jnp.zeros(shape, jnp.uint32)
  stride = 1
  for axis in reversed(range(len(shape))):
    index += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
    stride = stride * shape[axis] % (1 << 32)
  second = seed[1]
  if math.prod(shape) > 1 << 32:  # the index starts again at 0
    first = jax.lax.broadcasted_iota(jnp.uint32, shape, 0)
    second += first * jnp.uint32(0x632BE5AB)
  h = (index ^ seed[0]) * jnp.uint32(0x9E3779B1) + second
  h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
  h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
  return h ^ (h >> 16)

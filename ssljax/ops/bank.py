"""Features of texts: their likeness, and a queue of the newest."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Queue(NamedTuple):
  """K rows of features with what was said of each."""

  feature: Array  # f32 [K, W], zeros where nothing came yet
  probability: Array  # f32 [K, C]
  count: Array  # i32 [], rows that came so far


def queue_init(length: int, width: int, classes: int) -> Queue:
  return Queue(
    jnp.zeros((length, width), jnp.float32),
    jnp.zeros((length, classes), jnp.float32),
    jnp.zeros((), jnp.int32),
  )


def queue_push(state: Queue, feature: Array, probability: Array) -> Queue:
  """Rows [n, ...] in place of the n oldest; n at most K."""
  length, n = state.feature.shape[0], feature.shape[0]
  place = (state.count + jnp.arange(n, dtype=jnp.int32)) % length
  return Queue(
    state.feature.at[place].set(feature),
    state.probability.at[place].set(probability),
    # Kept small for ever: a count beyond K tells no more than K does, but the place.
    jnp.where(state.count + n < 2 * length, state.count + n, state.count + n - length),
  )


def queue_filled(state: Queue) -> Array:
  """bool [K], rows that hold something."""
  return jnp.arange(state.feature.shape[0]) < state.count


def unit(x: Array) -> Array:
  """Rows of f32 [..., W] at length 1; a row of zeros stays, and takes no gradient."""
  square = (x**2).sum(-1, keepdims=True)
  return jnp.where(square > 0, x * jax.lax.rsqrt(jnp.maximum(square, 1e-24)), 0.0)


def cosine(a: Array, b: Array) -> Array:
  """Of each pair of rows, f32 [...]."""
  return (unit(a) * unit(b)).sum(-1)

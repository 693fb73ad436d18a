"""Cosine similarity of features, and a queue of the newest features."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Queue(NamedTuple):
  """K rows, each with features and class probabilities."""

  feature: Array  # f32 [K, W], zeros until filled
  probability: Array  # f32 [K, C]
  count: Array  # i32 [], rows pushed so far, up to 2 K (see `queue_push`)


def queue_init(length: int, width: int, classes: int) -> Queue:
  return Queue(
    jnp.zeros((length, width), jnp.float32),
    jnp.zeros((length, classes), jnp.float32),
    jnp.zeros((), jnp.int32),
  )


def queue_push(state: Queue, feature: Array, probability: Array) -> Queue:
  """Replaces the n oldest rows with the given rows, [n, ...]; n is at most K."""
  length, n = state.feature.shape[0], feature.shape[0]
  slot = (state.count + jnp.arange(n, dtype=jnp.int32)) % length
  return Queue(
    state.feature.at[slot].set(feature),
    state.probability.at[slot].set(probability),
    # Stays below 2 K, so that it can't overflow; from K on, only the slot matters.
    jnp.where(state.count + n < 2 * length, state.count + n, state.count + n - length),
  )


def queue_filled(state: Queue) -> Array:
  """bool [K], True for rows that are filled."""
  return jnp.arange(state.feature.shape[0]) < state.count


def unit(x: Array) -> Array:
  """Scales rows of f32 [..., W] to norm 1; zeros stay zeros and get no gradient."""
  square = (x**2).sum(-1, keepdims=True)
  return jnp.where(square > 0, x * jax.lax.rsqrt(jnp.maximum(square, 1e-24)), 0.0)


def cosine(a: Array, b: Array) -> Array:
  """Cosine similarity of each pair of rows, f32 [...]."""
  return (unit(a) * unit(b)).sum(-1)

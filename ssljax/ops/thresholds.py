"""Confidence thresholds for each class (FlexMatch, FreeMatch)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Sizes

Array = jax.Array


class Learned(NamedTuple):
  """FlexMatch: which rows have been learned as which class."""

  label: Array  # i32 [N], last confident pseudo-label of each row; -1 before that
  count: Array  # i32 [C], number of rows with each label


def learned_init(sizes: Sizes) -> Learned:
  return Learned(
    jnp.full(sizes.unlabelled, -1, jnp.int32), jnp.zeros(sizes.classes, jnp.int32)
  )


def learned_status(state: Learned, warmup: bool = True) -> Array:
  """beta(c) = sigma(c) / max(max sigma, unused rows), f32 [C].

  See FlexMatch, arXiv 2110.08263, equations 5, 6 and 11 (threshold warm-up). Without
  `warmup`, unused rows are ignored.
  """
  unused = state.label.shape[0] - state.count.sum()
  largest = jnp.maximum(state.count.max(), unused if warmup else 0)
  return state.count.astype(jnp.float32) / jnp.maximum(largest, 1).astype(jnp.float32)


def learned_threshold(state: Learned, threshold: float, warmup: bool = True) -> Array:
  """T(c) = threshold * beta(c) / (2 - beta(c)), f32 [C] (equation 12, convex)."""
  beta = learned_status(state, warmup)
  return threshold * beta / (2.0 - beta)


def learned_update(
  state: Learned, index: Array, probability: Array, threshold: float, use: Array
) -> Learned:
  """Records the labels of confident rows.

  Args:
    index: i32 [U], without repeats.
    probability: f32 [U, C].
    use: bool [U], rows that may be recorded.
  """
  old = state.label[index]
  confident = use & (probability.max(-1) >= threshold)
  new = jnp.where(confident, probability.argmax(-1).astype(jnp.int32), old)
  one_hot = lambda label: jax.nn.one_hot(label, state.count.shape[0], dtype=jnp.int32)
  count = lambda label: one_hot(label).sum(0)  # one_hot(-1) is all 0
  counts = state.count + count(new) - count(old)
  return Learned(state.label.at[index].set(new), counts)


class Adaptive(NamedTuple):
  """FreeMatch: running averages over weak predictions."""

  confidence: Array  # f32 [], tau_t, mean of max p
  probability: Array  # f32 [C], mean of p
  histogram: Array  # f32 [C], frequency of each argmax


def adaptive_init(sizes: Sizes) -> Adaptive:
  classes = sizes.classes
  return Adaptive(
    jnp.array(1.0 / classes, jnp.float32),
    jnp.full(classes, 1.0 / classes, jnp.float32),
    jnp.full(classes, 1.0 / classes, jnp.float32),
  )


def adaptive_update(state: Adaptive, probability: Array, momentum: float) -> Adaptive:
  """Applies equations 5, 6 and 11 of arXiv 2205.07246; probability f32 [U, C]."""
  classes = probability.shape[-1]
  batch = Adaptive(
    probability.max(-1).mean(),
    probability.mean(0),
    jax.nn.one_hot(probability.argmax(-1), classes, dtype=jnp.float32).mean(0),
  )
  return jax.tree.map(lambda a, b: momentum * a + (1.0 - momentum) * b, state, batch)


def adaptive_threshold(state: Adaptive) -> Array:
  """tau(c) = tau ptilde(c) / max ptilde, f32 [C] (equation 7)."""
  return state.confidence * state.probability / state.probability.max()

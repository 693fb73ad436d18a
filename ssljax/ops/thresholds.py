"""Confidence thresholds for each class (FlexMatch, FreeMatch)."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Clock, Sizes
from ssljax.ops import averages
from ssljax.options import Absent, Published, Share

Array = jax.Array
# Keywords of methods.
Warmup = Annotated[bool, "lower thresholds while few texts are learned"]
WarmupEnds = Annotated[
  Share,
  "thresholds are no longer lowered after this share of the run",
  Absent(1.0),
  Published(1.0),
]
WARMUP_ENDS = 0.05  # the default


class Learned(NamedTuple):
  """FlexMatch: which rows have been learned as which class."""

  label: Array  # i32 [N], last confident pseudo-label of each row; -1 before that
  count: Array  # i32 [C], number of rows with each label


def learned_init(sizes: Sizes) -> Learned:
  return Learned(
    jnp.full(sizes.unlabelled, -1, jnp.int32), jnp.zeros(sizes.classes, jnp.int32)
  )


def is_warming(clock: Clock, warmup: bool, ends: float) -> Array | bool:
  """Whether thresholds are lowered in this step, from the keywords; bool or bool []."""
  return clock.progress < ends if warmup and ends < 1 else warmup


def learned_status(state: Learned, warming: Array | bool = True) -> Array:
  """beta(c) = sigma(c) / max(max sigma, unused rows), f32 [C].

  See FlexMatch, arXiv 2110.08263, equations 5, 6 and 11 (threshold warm-up). Unless
  `warming`, unused rows are ignored.
  """
  unused = state.label.shape[0] - state.count.sum()
  if warming is not True:
    unused = jnp.where(warming, unused, 0)
  largest = jnp.maximum(state.count.max(), unused)
  return state.count.astype(jnp.float32) / jnp.maximum(largest, 1).astype(jnp.float32)


def learned_threshold(
  state: Learned, threshold: float, warming: Array | bool = True
) -> Array:
  """T(c) = threshold * beta(c) / (2 - beta(c)), f32 [C] (equation 12, convex)."""
  beta = learned_status(state, warming)
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


def adaptive_update(
  state: Adaptive, probability: Array, share: Array | float
) -> Adaptive:
  """Applies equations 5, 6 and 11 of arXiv 2205.07246.

  Args:
    probability: f32 [U, C].
    share: weight of the new values, see `averages.share_of_newest`.
  """
  classes = probability.shape[-1]
  batch = Adaptive(
    probability.max(-1).mean(),
    probability.mean(0),
    jax.nn.one_hot(probability.argmax(-1), classes, dtype=jnp.float32).mean(0),
  )
  return jax.tree.map(lambda a, b: averages.updated(a, b, share), state, batch)


def adaptive_threshold(state: Adaptive) -> Array:
  """tau(c) = tau ptilde(c) / max ptilde, f32 [C] (equation 7)."""
  return state.confidence * state.probability / state.probability.max()

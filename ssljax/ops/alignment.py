"""Distribution alignment, the averages that it needs, and sharpening.

Distribution alignment (Berthelot et al. 2020, ReMixMatch, arXiv 1911.09785, section
3.1) multiplies the probability of each class by its target mean, divides it by its mean
so far, and then normalises the prediction.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Sizes
from ssljax.ops import averages

Array = jax.Array
TINY = 1e-6


class Average(NamedTuple):
  """An exponential moving average that starts at the first value."""

  mean: Array  # f32 [...]
  steps: Array  # i32 [], values so far


def average_init(*shape: int) -> Average:
  return Average(jnp.zeros(shape, jnp.float32), jnp.zeros((), jnp.int32))


def average_update(state: Average, value: Array, share: Array | float) -> Average:
  """m <- (1 - share) m + share value; m starts as the first value."""
  mean = averages.updated(state.mean, value, share)
  return Average(jnp.where(state.steps == 0, value, mean), state.steps + 1)


class Window(NamedTuple):
  """The means of the last K batches, for a moving average (CoMatch, SimMatch)."""

  means: Array  # f32 [K, C]
  steps: Array  # i32 [], batches so far


def window_init(length: int, classes: int) -> Window:
  return Window(jnp.zeros((length, classes), jnp.float32), jnp.zeros((), jnp.int32))


def window_update(state: Window, value: Array) -> Window:
  """Replaces the oldest mean by value f32 [C]."""
  slot = state.steps % state.means.shape[0]
  return Window(state.means.at[slot].set(value), state.steps + 1)


def window_mean(state: Window) -> Array:
  """f32 [C], the mean over the batches in the window."""
  count = jnp.minimum(state.steps, state.means.shape[0])
  return state.means.sum(0) / jnp.maximum(count, 1).astype(jnp.float32)


def aligned(probability: Array, target: Array, mean: Array) -> Array:
  """Normalise(p * target / mean), f32 [..., C]; target, mean f32 [C]."""
  scaled = probability * (target + TINY) / (mean + TINY)
  return scaled / scaled.sum(-1, keepdims=True)


def uniform(classes: int) -> Array:
  """f32 [C], all 1/C."""
  return jnp.full(classes, 1.0 / classes, jnp.float32)


def labelled_counts(sizes: Sizes) -> Array:
  """f32 [C], labelled texts in each class, at least 1; 1 if `sizes` has no counts."""
  counts = jnp.array(sizes.labelled_counts or [1] * sizes.classes, jnp.float32)
  return jnp.maximum(counts, 1.0)


def sharpened(probability: Array, temperature: float) -> Array:
  """Normalise(p^(1/T)) (MixMatch, arXiv 1905.02249, equation 7); f32 [..., C].

  For T = 0, the result is the limit, which is one-hot.
  """
  if temperature == 0:
    return jax.nn.one_hot(
      probability.argmax(-1), probability.shape[-1], dtype=jnp.float32
    )
  # Uses logarithms, since powers of small numbers would underflow to 0.
  return jax.nn.softmax(jnp.log(jnp.maximum(probability, 1e-30)) / temperature)

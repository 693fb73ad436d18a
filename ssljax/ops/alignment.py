"""Distribution alignment: predictions whose mean is what it should be; and sharpening.

Berthelot et al. 2020 (ReMixMatch, arXiv 1911.09785), section 3.1: each prediction is
scaled, class by class, by (wanted mean / mean so far), then to a sum of 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
TINY = 1e-6


class Average(NamedTuple):
  """An exponential moving average that begins with the first value it sees."""

  mean: Array  # f32 [...]
  steps: Array  # i32 [], values seen


def average_init(*shape: int) -> Average:
  return Average(jnp.zeros(shape, jnp.float32), jnp.zeros((), jnp.int32))


def average_update(state: Average, value: Array, momentum: float) -> Average:
  """m <- momentum m + (1 - momentum) value; the first value is taken as it is."""
  moved = momentum * state.mean + (1.0 - momentum) * value
  return Average(jnp.where(state.steps == 0, value, moved), state.steps + 1)


class Window(NamedTuple):
  """The last K batch means, for an average without a tail (CoMatch, SimMatch)."""

  means: Array  # f32 [K, C]
  steps: Array  # i32 [], batches seen


def window_init(length: int, classes: int) -> Window:
  return Window(jnp.zeros((length, classes), jnp.float32), jnp.zeros((), jnp.int32))


def window_update(state: Window, value: Array) -> Window:
  """value f32 [C] in place of the oldest."""
  place = state.steps % state.means.shape[0]
  return Window(state.means.at[place].set(value), state.steps + 1)


def window_mean(state: Window) -> Array:
  """f32 [C], the mean of what is there."""
  here = jnp.minimum(state.steps, state.means.shape[0])
  return state.means.sum(0) / jnp.maximum(here, 1).astype(jnp.float32)


def aligned(probability: Array, wanted: Array, mean: Array) -> Array:
  """Normalise(p * wanted / mean), f32 [..., C]; wanted, mean f32 [C]."""
  scaled = probability * (wanted + TINY) / (mean + TINY)
  return scaled / scaled.sum(-1, keepdims=True)


def uniform(classes: int) -> Array:
  """f32 [C]."""
  return jnp.full(classes, 1.0 / classes, jnp.float32)


def sharpened(probability: Array, temperature: float) -> Array:
  """p^(1/T), to a sum of 1 (MixMatch, arXiv 1905.02249, equation 7); f32 [..., C].

  At T = 0 its limit, one-hot.
  """
  if temperature == 0:
    return jax.nn.one_hot(
      probability.argmax(-1), probability.shape[-1], dtype=jnp.float32
    )
  # In logarithms: powers of small numbers would be 0.
  return jax.nn.softmax(jnp.log(jnp.maximum(probability, 1e-30)) / temperature)

"""Pseudo-margins and their running averages (MarginMatch, MultiMatch).

The methods have tables with all N rows, but read and write only the rows of the batch.
So if the state is donated, XLA updates the tables in place.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from ssljax.options import Share

Array = jax.Array
# Keywords of methods.
Age = Annotated[
  Literal["visits", "epoch"], "unit in which the age of a margin is counted"
]
Smoothness = Annotated[
  Share, "a new margin gets the weight smoothness / (1 + age); 1: plain mean"
]


def pseudo_margin(logits: Array) -> Array:
  """PM_c = z_c - max_{i != c} z_i (MarginMatch, section 3); f32 [..., C].

  The predicted class gets its lead over the runner-up, and every other class its
  (negative) gap to the largest logit. If two classes share the largest
  logit, both get 0.
  """
  top = jax.lax.top_k(logits, 2)[0]  # [..., 2]
  predicted = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=bool)
  return logits - jnp.where(predicted, top[..., 1:], top[..., :1])


def averaged(average: Array, margin: Array, age: Array, smoothness: float) -> Array:
  """APM_t = PM_t d / (1 + t) + APM_{t-1} (1 - d / (1 + t)) (MarginMatch, equation 3).

  Args:
    average, margin: f32 [..., U, C].
    age: t in the paper: i32 [U], how often each row was visited, or i32 [], the epoch.
    smoothness: d in the paper; if close to 1, the result is the mean of all
      margins so far.
  """
  share = smoothness / (1.0 + age.astype(jnp.float32))
  share = share[..., None] if share.ndim else share
  return share * margin + (1.0 - share) * average

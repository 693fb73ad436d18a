"""Weights that grow over a run."""

import jax
import jax.numpy as jnp

Array = jax.Array


def linear(progress: Array, share: float) -> Array:
  """f32 [], 0 at the start, 1 from `share` of the run on; 1 for a share of 0."""
  if share == 0:
    return jnp.ones_like(progress)
  return jnp.clip(progress / share, 0.0, 1.0)

"""Ramps: weights that grow over a run."""

import jax
import jax.numpy as jnp

Array = jax.Array


def linear(progress: Array, share: float) -> Array:
  """f32 [], rises from 0 at the start to 1 at `share` of the run; 1 if share is 0."""
  if share == 0:
    return jnp.ones_like(progress)
  return jnp.clip(progress / share, 0.0, 1.0)

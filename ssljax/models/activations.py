"""The activation functions that a config.json may name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import erf

Array = jax.Array


def _gelu(x: Array) -> Array:
  # On CPU, erf takes half the time of erfc, which jax.nn.gelu uses. It needs float32,
  # since 1 + erf cancels for negative x.
  wide = x.astype(jnp.float32)
  return (0.5 * wide * (1 + erf(wide * 0.5**0.5))).astype(x.dtype)


def _approximate_gelu(x: Array) -> Array:
  return jax.nn.gelu(x, approximate=True)


# The keys are the names in transformers. All functions keep the dtype of x.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
  "gelu": _gelu,
  "gelu_new": _approximate_gelu,
  "gelu_pytorch_tanh": _approximate_gelu,
  "gelu_fast": _approximate_gelu,
  "gelu_python": _gelu,
  "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
  "relu": jax.nn.relu,
  "silu": jax.nn.silu,
  "swish": jax.nn.silu,
  "tanh": jnp.tanh,
  "sigmoid": jax.nn.sigmoid,
  "linear": lambda x: x,
}

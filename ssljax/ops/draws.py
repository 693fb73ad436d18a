"""Random draws that belong to a text, wherever in the batch it stands."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array


def by_row(key: Array, index: Array, draw: Callable[[Array], Array]) -> Array:
  """draw(key of row i) for each i of `index` i32 [n]; [n, ...].

  The keys are of threefry whatever `key` is: of a batch of "rbg" keys JAX uses the
  first one for all, so that a draw would hang on the place in the batch.
  """
  bits = jax.random.bits(key, (2,), jnp.uint32)
  plain = jax.random.wrap_key_data(bits, impl="threefry2x32")
  return jax.vmap(lambda i: draw(jax.random.fold_in(plain, i)))(index)

"""Random draws that depend on the text, not on its position in the batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array


def by_row(key: Array, index: Array, draw: Callable[[Array], Array]) -> Array:
  """Returns draw(key of row i) for each i in `index`, i32 [n]; shape [n, ...].

  Always uses threefry keys. For a batch of "rbg" keys, JAX uses only the first key, so
  a draw would depend on the position in the batch.
  """
  bits = jax.random.bits(key, (2,), jnp.uint32)
  threefry = jax.random.wrap_key_data(bits, impl="threefry2x32")
  return jax.vmap(lambda i: draw(jax.random.fold_in(threefry, i)))(index)

"""The digest of a pytree depends on names, shapes, dtypes, keys and bytes only."""

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.training.pytrees import sha256


def test_the_digest_depends_on_every_property_of_a_leaf():
  base = {"a": jnp.zeros((2, 3), jnp.float32), "key": jax.random.key(0, impl="rbg")}
  changed = [
    {**base, "a": base["a"].at[1, 2].set(-0.0)},
    {**base, "a": base["a"].reshape(3, 2)},
    {**base, "a": base["a"].astype(jnp.int32)},
    {"b": base["a"], "key": base["key"]},
    {**base, "key": jax.random.key(1, impl="rbg")},
    {**base, "key": jax.random.key(0, impl="unsafe_rbg")},
    {**base, "key": jax.random.key_data(base["key"])},
  ]
  assert len({sha256(tree) for tree in [base, *changed]}) == 1 + len(changed)
  assert sha256(base) == sha256(jax.tree.map(lambda x: x, base))
  assert sha256({"x": np.float32(2)}) == sha256({"x": jnp.float32(2)})

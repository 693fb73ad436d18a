"""Names, flattens and hashes the leaves of a pytree."""

import functools
import hashlib
import math
import operator
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils


def sha256(tree: Any) -> str:
  """SHA-256 of a pytree: path, shape, dtype and bytes of each leaf, in tree order.

  For a typed key, the implementation and the key data are hashed. The placement of
  arrays makes no difference. All processes must call this function, since it gathers
  arrays that span processes.
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    kind = ""
    if _is_key(leaf):
      kind, leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
    if isinstance(leaf, jax.Array) and not (
      leaf.is_fully_addressable or leaf.is_fully_replicated
    ):
      leaf = multihost_utils.process_allgather(leaf, tiled=True)
    array = np.asarray(leaf)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    digest.update(f"{name}|{kind}|{array.shape}|{array.dtype.name}\n".encode())
    # Reshape first: `view` can't change the item size of a 0-d array.
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
  return digest.hexdigest()


def to_named(tree: Any, abstract: bool = False) -> dict:
  """Converts a pytree to nested dicts of plain arrays, which any program can read.

  Tuples and dataclasses become dicts of their fields, and typed keys become their data.
  Empty arrays are left out, since Orbax rejects them.

  Args:
    abstract: whether the leaves, also in the result, are jax.ShapeDtypeStruct with
      shardings.
  """
  named = {}
  for names, leaf in _leaves_with_names(tree):
    if math.prod(leaf.shape) == 0:
      continue
    if _is_key(leaf) and abstract:
      data = jax.eval_shape(jax.random.key_data, leaf)
      leaf = jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=leaf.sharding)
    elif _is_key(leaf):
      leaf = jax.random.key_data(leaf)
    named[names] = leaf
  return flax.traverse_util.unflatten_dict(named)


def from_named(named: dict, abstract: Any) -> Any:
  """Inverts `to_named`; `abstract` gives the structure, shapes and shardings."""
  leaves = []
  for names, spec in _leaves_with_names(abstract):
    if math.prod(spec.shape) == 0:
      leaf = jax.device_put(jnp.zeros(spec.shape, spec.dtype), spec.sharding)
    else:
      leaf = functools.reduce(operator.getitem, names, named)
      if _is_key(spec):
        leaf = jax.random.wrap_key_data(leaf, impl=_key_impl(spec))
    leaves.append(leaf)
  return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def _is_key(leaf: Any) -> bool:
  dtype = getattr(leaf, "dtype", None)
  return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _leaves_with_names(tree: Any) -> list[tuple[tuple[str, ...], Any]]:
  """(path, leaf) of each leaf; if the tree is a single leaf, its path is ("value",)."""
  return [
    (tuple(jax.tree_util.keystr((k,), simple=True) for k in path) or ("value",), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


def _key_impl(key: jax.ShapeDtypeStruct) -> Any:
  """Returns the implementation of an abstract key, which only tracing reveals."""
  implementations = []
  jax.eval_shape(lambda k: implementations.append(jax.random.key_impl(k)), key)
  return implementations[0]

"""The leaves of a pytree as plain arrays under their names, and the digest of all."""

import hashlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding


def sha256(tree: Any) -> str:
  """Digest of a pytree: path, shape, dtype and bytes of each leaf, in tree order.

  Typed keys count by their implementation and key data. Where an array lives makes no
  difference; one that is spread over processes is gathered, so all of them must call.
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    kind = ""
    if _is_key(leaf):
      kind, leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
    array = _to_host(leaf)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    head = f"{name}|{kind}|{array.shape}|{array.dtype.name}\n"
    digest.update(head.encode())
    # reshape first: a 0-d array has no axis whose view could change its length
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
  return digest.hexdigest()


def to_named(tree: Any, abstract: bool = False) -> dict:
  """The tree as nested dicts of plain arrays: what any program can read again.

  Tuples and dataclasses become dicts of their fields, keys their data; empty arrays,
  which Orbax refuses, are left out.
  """
  named: dict = {}
  for names, leaf in _paths(tree):
    if math.prod(leaf.shape) == 0:
      continue
    if abstract:
      sharding = leaf.sharding or SingleDeviceSharding(jax.devices()[0])
      if _is_key(leaf):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
      leaf = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    elif _is_key(leaf):
      leaf = jax.random.key_data(leaf)
    folder = named
    for name in names[:-1]:
      folder = folder.setdefault(name, {})
    folder[names[-1]] = leaf
  return named


def from_named(named: dict, abstract: Any) -> Any:
  """The inverse of `to_named`."""
  leaves = []
  for names, want in _paths(abstract):
    if math.prod(want.shape) == 0:
      leaves.append(jax.device_put(jnp.zeros(want.shape, want.dtype), want.sharding))
      continue
    leaf = named
    for name in names:
      leaf = leaf[name]
    if _is_key(want):
      leaf = jax.random.wrap_key_data(leaf, impl=_impl(want))
    leaves.append(leaf)
  return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def _is_key(leaf: Any) -> bool:
  dtype = getattr(leaf, "dtype", None)
  return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _to_host(leaf: Any) -> np.ndarray:
  if isinstance(leaf, jax.Array) and not (
    leaf.is_fully_addressable or leaf.is_fully_replicated
  ):
    return multihost_utils.process_allgather(leaf, tiled=True)
  return np.asarray(leaf)


def _paths(tree: Any) -> list[tuple[tuple[str, ...], Any]]:
  """(names, leaf) of each leaf; a bare array is called "value"."""
  return [
    (tuple(jax.tree_util.keystr((k,), simple=True) for k in path) or ("value",), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


def _impl(key: jax.ShapeDtypeStruct) -> Any:
  """The implementation of an abstract key: only a key that is traced tells it."""
  found = []
  jax.eval_shape(lambda k: found.append(jax.random.key_impl(k)), key)
  return found[0]

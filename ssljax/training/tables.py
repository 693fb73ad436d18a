"""The tables of a method: state that has an entry for each unlabelled text."""

from typing import Any

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssljax.errors import UserError
from ssljax.method import Method, Sizes
from ssljax.sharding import Devices


def pool_bytes(method: Method, sizes: Sizes) -> int:
  """Bytes of a method's tables on a device that holds them whole."""
  state = jax.eval_shape(lambda: method.init(sizes))
  tables = [leaf for leaf in jax.tree.leaves(state) if sizes.unlabelled in leaf.shape]
  return sum(leaf.size * leaf.dtype.itemsize for leaf in tables)


def split(shardings: Any, state: Any, sizes: Sizes, devices: Devices) -> Any:
  """Splits the tables of a method's state over the axis "data".

  Args:
    shardings: of the method's state, from `sharding.state_shardings`.
    state: of the method, as arrays or as jax.ShapeDtypeStruct.

  Returns:
    `shardings` with those of the tables replaced.

  Raises:
    UserError: the number of unlabelled texts isn't a multiple of the axis's size, or
      the step runs under pmap.
  """
  texts, parts = sizes.unlabelled, devices.mesh.shape["data"]
  if devices.parallel != "jit":
    raise UserError("--config.shard_tables=true needs --config.parallel=jit")
  if texts % parts:
    raise UserError(
      f"--config.shard_tables=true: {texts} unlabelled texts can't be split evenly "
      f"over {parts} devices; leave {texts % parts} rows of train out, or omit the key"
    )

  def choose(leaf: Any, sharding: NamedSharding) -> NamedSharding:
    if texts not in leaf.shape:
      return sharding
    axis = leaf.shape.index(texts)
    return NamedSharding(devices.mesh, P(*[None] * axis, "data"))

  return jax.tree.map(choose, state, shardings)

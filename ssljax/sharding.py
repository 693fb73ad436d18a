"""Places states and batches on the device mesh, and compiles the step (jit or pmap)."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ssljax.batch import Batch, Labelled, Texts, Unlabelled
from ssljax.errors import UserError

MIN_SHARDED_SIZE = 1 << 16  # smaller parameters are replicated


class Devices(NamedTuple):
  """The devices of a run."""

  mesh: jax.sharding.Mesh  # axes "data" and "fsdp"
  parallel: str  # "jit" | "pmap"
  shards: int  # number of data shards, one per device
  mine: tuple[int, ...]  # the shards of this process

  @property
  def replicated(self) -> NamedSharding:
    return NamedSharding(self.mesh, P())


def make_devices(
  parallel: str = "jit", fsdp: int = 1, devices: Sequence[jax.Device] | None = None
) -> Devices:
  """Builds the mesh over the devices of all processes.

  Args:
    parallel: "jit" (over the mesh) or "pmap".
    fsdp: number of devices that share one copy of the parameters; with 1, every device
      has its own copy.
    devices: by default, all devices of all processes.

  Raises:
    UserError: fsdp does not divide the number of devices, or is above 1 with "pmap".
  """
  devices = np.array(jax.devices() if devices is None else devices)
  if len(devices) % fsdp:
    raise UserError(
      f"--config.fsdp={fsdp} must divide the number of devices, {len(devices)}"
    )
  if parallel == "pmap" and fsdp > 1:
    raise UserError(f"--config.fsdp={fsdp} needs --config.parallel=jit")
  shape, types = (len(devices) // fsdp, fsdp), (AxisType.Auto,) * 2
  mesh = jax.make_mesh(shape, ("data", "fsdp"), types, devices=list(devices))
  process = jax.process_index()
  mine = [i for i, d in enumerate(mesh.devices.flat) if d.process_index == process]
  return Devices(mesh, parallel, len(devices), tuple(mine))


def state_shardings(state: Any, devices: Devices) -> Any:
  """The sharding of each leaf of a state: large leaves are split over "fsdp"."""
  splits = devices.mesh.shape["fsdp"]

  def choose(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    if splits > 1 and leaf.size >= MIN_SHARDED_SIZE and not is_key:
      for axis in sorted(range(leaf.ndim), key=lambda a: -leaf.shape[a]):
        if leaf.shape[axis] % splits == 0:
          return NamedSharding(devices.mesh, P(*[None] * axis, "fsdp"))
    return devices.replicated

  return jax.tree.map(choose, state)


def make_dot(devices: Devices) -> Callable[..., jax.Array] | None:
  """A `dot_general` for `Encoder.dot`; None if the parameters aren't split.

  It makes a kernel whole for the product, and once more in the backward pass, so that
  no device keeps whole kernels. Without it, XLA may gather the hidden states of all
  texts instead, and multiply them with a part of the kernel on each device.
  """
  if devices.mesh.shape["fsdp"] == 1:
    return None

  def dot(x, kernel, *args, **keywords):
    @jax.checkpoint
    def product(x, kernel):
      whole = jax.lax.with_sharding_constraint(kernel, devices.replicated)
      return jax.lax.dot_general(x, whole, *args, **keywords)

    return product(x, kernel)

  return dot


def map_batch(texts: Callable, rest: Callable, batch: Batch) -> Batch:
  """Applies `texts` to the arrays of the texts, and `rest` to all other arrays."""

  def map_half(half):
    views = {name: jax.tree.map(texts, view) for name, view in half.views.items()}
    return jax.tree.map(rest, half._replace(views={}))._replace(views=views)

  return Batch(map_half(batch.labelled), map_half(batch.unlabelled))


def put(tree: Any, shardings: Any) -> Any:
  """Moves host arrays to devices; every process must pass the same arrays."""

  def put_leaf(leaf, sharding):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      data = put_leaf(np.asarray(jax.random.key_data(leaf)), sharding)
      return jax.random.wrap_key_data(data, impl=str(jax.random.key_impl(leaf)))
    return _from_callback(np.asarray(leaf), sharding)

  return jax.tree.map(put_leaf, tree, shardings)


def put_batch(
  batch: Batch, hidden: np.ndarray, devices: Devices, micro: bool = False
) -> tuple[Batch, jax.Array]:
  """Splits the texts of a batch over the devices; replicates labels and indices.

  Args:
    batch: NumPy arrays; the texts are the shards of this process.
    hidden: i32 [U], true labels of the unlabelled texts.
    micro: whether the texts have a leading axis of micro-batches.
  """
  axes = P(None, ("data", "fsdp")) if micro else P(("data", "fsdp"))
  split = NamedSharding(devices.mesh, axes)

  put_shards = functools.partial(jax.make_array_from_process_local_data, split)
  replicate = lambda array: _from_callback(array, devices.replicated)
  return map_batch(put_shards, replicate, batch), replicate(hidden)


def put_texts(texts: Texts, devices: Devices) -> Texts:
  """Splits texts over all devices; every process must pass all texts."""
  split = NamedSharding(devices.mesh, P(("data", "fsdp")))
  return jax.tree.map(lambda array: _from_callback(array, split), texts)


def _from_callback(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
  return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])


def compile_train_step(
  step: Callable, devices: Devices, shardings: Any, micro: bool = False
) -> Callable:
  """Compiles the step for the devices. The state is donated (updated in place).

  Under jit, the shardings determine the communication. Under pmap, each device gets its
  own shard of the texts and a copy of everything else. The step itself then gathers
  outputs and averages gradients over the axis "data".
  """
  if devices.parallel == "jit":
    out = (shardings, devices.replicated)
    return jax.jit(step, donate_argnums=0, out_shardings=out)
  axis = 1 if micro else 0

  def step_on_shard(state, batch, hidden):
    # pmap has removed the shard axis, of size 1, from the texts.
    restore = lambda array: jax.numpy.expand_dims(array, axis)
    return step(state, map_batch(restore, lambda array: array, batch), hidden)

  in_axes = Batch(Labelled(axis, None, None), Unlabelled(axis, None))
  pmapped = jax.pmap(
    step_on_shard,
    axis_name="data",
    devices=list(devices.mesh.devices.flat),
    in_axes=(None, in_axes, None),
    out_axes=(None, None),
    donate_argnums=0,
  )

  def replicated(leaf):
    # pmap returns arrays on its own mesh, and the next call would compile for it again.
    copies = [shard.data for shard in leaf.addressable_shards]
    sharding = devices.replicated
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, copies)

  def compiled_step(state, batch, hidden):
    return jax.tree.map(replicated, pmapped(state, batch, hidden))

  compiled_step.lower = pmapped.lower
  return compiled_step

"""Places states and batches on the device mesh, and compiles the step (jit or pmap)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ssljax.batch import Batch, Texts
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

  @property
  def split(self) -> NamedSharding:
    """Splits the leading axis over all devices."""
    return NamedSharding(self.mesh, P(("data", "fsdp")))


def make_devices(
  parallel: str = "jit", fsdp: int = 1, devices: Sequence[jax.Device] | None = None
) -> Devices:
  """Builds the mesh over the devices of all processes.

  Args:
    parallel: "jit" (over the mesh) or "pmap".
    fsdp: number of devices over which a copy of the parameters is split; 1 replicates
      them.
    devices: by default, all.

  Raises:
    UserError: an unknown mode, or fsdp does not divide the number of devices.
  """
  devices = np.array(jax.devices() if devices is None else devices)
  if parallel not in ("jit", "pmap"):
    raise UserError(f"--config.parallel={parallel!r} must be jit or pmap")
  if fsdp < 1 or len(devices) % fsdp:
    raise UserError(
      f"--config.fsdp={fsdp} must divide the number of devices, {len(devices)}"
    )
  if parallel == "pmap" and fsdp > 1:
    raise UserError(f"--config.fsdp={fsdp} needs --config.parallel=jit")
  mesh = jax.make_mesh(
    (len(devices) // fsdp, fsdp),
    ("data", "fsdp"),
    axis_types=(AxisType.Auto,) * 2,
    devices=list(devices),
  )
  order = list(mesh.devices.flat)
  mine = tuple(i for i, d in enumerate(order) if d.process_index == jax.process_index())
  return Devices(mesh, parallel, len(order), mine)


def state_shardings(state: Any, devices: Devices) -> Any:
  """The sharding of each leaf of a state: large ones are split over "fsdp"."""
  splits = devices.mesh.shape["fsdp"]

  def place(leaf):
    if (
      splits == 1
      or leaf.size < MIN_SHARDED_SIZE
      or jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    ):
      return devices.replicated
    for axis in sorted(range(leaf.ndim), key=lambda a: -leaf.shape[a]):
      if leaf.shape[axis] % splits == 0:
        return NamedSharding(devices.mesh, P(*[None] * axis, "fsdp"))
    return devices.replicated

  return jax.tree.map(place, state)


def put(tree: Any, shardings: Any) -> Any:
  """Moves host arrays, the same in every process, to devices."""

  def put_leaf(leaf, sharding):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      data = put_leaf(np.asarray(jax.random.key_data(leaf)), sharding)
      return jax.random.wrap_key_data(data, impl=str(jax.random.key_impl(leaf)))
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda i: leaf[i])

  return jax.tree.map(put_leaf, tree, shardings)


def put_batch(
  batch: Batch, hidden: np.ndarray, devices: Devices, micro: bool = False
) -> tuple[Batch, jax.Array]:
  """Moves a batch to devices; its texts are the shards of this process.

  Texts are split over all devices along S; labels and indices are replicated.

  Args:
    batch: with NumPy leaves.
    hidden: i32 [U], true labels of the unlabelled texts.
    devices: of the run.
    micro: the texts have a leading axis of micro-batches.
  """
  axes = P(None, ("data", "fsdp")) if micro else P(("data", "fsdp"))
  split = NamedSharding(devices.mesh, axes)

  def put_shards(array):
    return jax.make_array_from_process_local_data(split, array)

  def replicate(array):
    return jax.make_array_from_callback(
      array.shape, devices.replicated, lambda i: array[i]
    )

  def put_half(half):
    views = {name: jax.tree.map(put_shards, view) for name, view in half.views.items()}
    return jax.tree.map(replicate, half._replace(views={}))._replace(views=views)

  return Batch(put_half(batch.labelled), put_half(batch.unlabelled)), replicate(hidden)


def compile_train_step(
  step: Callable, devices: Devices, shardings: Any, micro: bool = False
) -> Callable:
  """Compiles the step over the devices; its state is donated (updated in place).

  Under jit, the shardings determine the communication. Under pmap, each device gets its
  own shard of the texts and a copy of everything else; the step gathers outputs and
  averages gradients explicitly over the axis "data".
  """
  if devices.parallel == "jit":
    return jax.jit(
      step,
      donate_argnums=0,
      out_shardings=(shardings, devices.replicated),
    )
  axis = 1 if micro else 0

  def in_axes_of(half):
    views = {name: jax.tree.map(lambda a: axis, v) for name, v in half.views.items()}
    return jax.tree.map(lambda a: None, half._replace(views={}))._replace(views=views)

  cache = {}

  def pmapped(batch):
    # in_axes depends on the structure of the batch, which never changes in a run.
    if "step" not in cache:
      in_axes = Batch(in_axes_of(batch.labelled), in_axes_of(batch.unlabelled))
      cache["step"] = jax.pmap(
        lambda state, batch, hidden: step(state, _restore_axis(batch, axis), hidden),
        axis_name="data",
        devices=list(devices.mesh.devices.flat),
        in_axes=(None, in_axes, None),
        out_axes=(None, None),
        donate_argnums=0,
      )
    return cache["step"]

  def compiled_step(state, batch, hidden):
    return jax.tree.map(replicated, pmapped(batch)(state, batch, hidden))

  compiled_step.lower = lambda state, batch, hidden: pmapped(batch).lower(
    state, batch, hidden
  )

  def replicated(leaf):
    # pmap returns arrays on its own mesh, for which the next call would compile again.
    copies = [shard.data for shard in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(
      leaf.shape, devices.replicated, copies
    )

  return compiled_step


def _restore_axis(batch: Batch, axis: int) -> Batch:
  """Adds the shard axis, of size 1, which pmap has removed from the texts."""

  def restore(half):
    views = {
      name: jax.tree.map(lambda a: jax.numpy.expand_dims(a, axis), view)
      for name, view in half.views.items()
    }
    return half._replace(views=views)

  return Batch(restore(batch.labelled), restore(batch.unlabelled))


def put_texts(texts: Texts, devices: Devices) -> Texts:
  """Splits texts over all devices; they are the same in every process."""
  return jax.tree.map(
    lambda a: jax.make_array_from_callback(a.shape, devices.split, lambda i: a[i]),
    texts,
  )

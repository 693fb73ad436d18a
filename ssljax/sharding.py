"""Devices: the mesh, where arrays live on it, and the compiled step (jit or pmap)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ssljax.batch import Batch, Texts
from ssljax.errors import UserError

LARGE = 1 << 16  # a parameter with fewer entries is not worth cutting up


class Devices(NamedTuple):
  mesh: jax.sharding.Mesh  # axes "data" and "fsdp"
  parallel: str  # "jit" | "pmap"
  shards: int  # data shards: every device has texts of its own
  mine: tuple[int, ...]  # shards of this process

  @property
  def replicated(self) -> NamedSharding:
    return NamedSharding(self.mesh, P())

  @property
  def split(self) -> NamedSharding:
    """Leading axis over all devices."""
    return NamedSharding(self.mesh, P(("data", "fsdp")))


def make_devices(
  parallel: str = "jit", fsdp: int = 1, devices: Sequence[jax.Device] | None = None
) -> Devices:
  """All devices of all processes.

  Args:
    parallel: "jit" (over the mesh) or "pmap".
    fsdp: devices that share one copy of the parameters; 1 replicates them.
    devices: default all.

  Raises:
    UserError: an unknown mode, or fsdp that does not divide the devices.
  """
  devices = np.array(jax.devices() if devices is None else devices)
  if parallel not in ("jit", "pmap"):
    raise UserError(f"parallel={parallel!r} (--config.parallel): it is jit or pmap")
  if fsdp < 1 or len(devices) % fsdp:
    raise UserError(
      f"fsdp={fsdp} (--config.fsdp) must divide the {len(devices)} devices"
    )
  if parallel == "pmap" and fsdp > 1:
    raise UserError("fsdp above 1 needs --config.parallel=jit")
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
  """Where each leaf of an (abstract) state lives: large ones cut over "fsdp"."""
  parts = devices.mesh.shape["fsdp"]

  def place(leaf):
    if (
      parts == 1
      or leaf.size < LARGE
      or jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    ):
      return devices.replicated
    for axis in sorted(range(leaf.ndim), key=lambda a: -leaf.shape[a]):
      if leaf.shape[axis] % parts == 0:
        return NamedSharding(devices.mesh, P(*[None] * axis, "fsdp"))
    return devices.replicated

  return jax.tree.map(place, state)


def put(tree: Any, shardings: Any) -> Any:
  """Host arrays, alike on every process, to devices."""

  def one(leaf, sharding):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      data = one(np.asarray(jax.random.key_data(leaf)), sharding)
      return jax.random.wrap_key_data(data, impl=str(jax.random.key_impl(leaf)))
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda i: leaf[i])

  return jax.tree.map(one, tree, shardings)


def put_batch(
  batch: Batch, hidden: np.ndarray, devices: Devices, micro: bool = False
) -> tuple[Batch, jax.Array]:
  """A batch whose texts are this process's shards, to devices.

  Texts are split over all devices along S, labels and indices stand on each.
  """
  over = P(None, ("data", "fsdp")) if micro else P(("data", "fsdp"))
  split = NamedSharding(devices.mesh, over)

  def texts(array):
    return jax.make_array_from_process_local_data(split, array)

  def whole(array):
    return jax.make_array_from_callback(
      array.shape, devices.replicated, lambda i: array[i]
    )

  def part(p):
    views = {name: jax.tree.map(texts, view) for name, view in p.views.items()}
    return jax.tree.map(whole, p._replace(views={}))._replace(views=views)

  return Batch(part(batch.labelled), part(batch.unlabelled)), whole(hidden)


def compile_train_step(
  step: Callable, devices: Devices, shardings: Any, micro: bool = False
) -> Callable:
  """The step over the devices, its state donated (updated in place).

  Under jit the mesh does it all. Under pmap each device gets its own shard of the
  texts and the whole of everything else; the step gathers and averages by itself
  (axis "data").
  """
  if devices.parallel == "jit":
    return jax.jit(
      step,
      donate_argnums=0,
      out_shardings=(shardings, devices.replicated),
    )
  axis = 1 if micro else 0

  def part(p):
    views = {name: jax.tree.map(lambda a: axis, v) for name, v in p.views.items()}
    return jax.tree.map(lambda a: None, p._replace(views={}))._replace(views=views)

  cache = {}

  def mapped(batch):
    # in_axes depends on the views that there are, which never change in a run.
    if "step" not in cache:
      in_axes = Batch(part(batch.labelled), part(batch.unlabelled))
      cache["step"] = jax.pmap(
        lambda state, batch, hidden: step(state, restore_axis(batch, axis), hidden),
        axis_name="data",
        devices=list(devices.mesh.devices.flat),
        in_axes=(None, in_axes, None),
        out_axes=(None, None),
        donate_argnums=0,
      )
    return cache["step"]

  def on_all(state, batch, hidden):
    return jax.tree.map(everywhere, mapped(batch)(state, batch, hidden))

  on_all.lower = lambda state, batch, hidden: mapped(batch).lower(state, batch, hidden)

  def everywhere(leaf):
    # What pmap returns is replicated over the devices of this process, on a mesh of
    # pmap's own: the next call would compile again for that.
    parts = [shard.data for shard in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(
      leaf.shape, devices.replicated, parts
    )

  return on_all


def restore_axis(batch: Batch, axis: int) -> Batch:
  """Gives texts back their shard axis, of size 1, which pmap has taken."""

  def part(p):
    views = {
      name: jax.tree.map(lambda a: jax.numpy.expand_dims(a, axis), view)
      for name, view in p.views.items()
    }
    return p._replace(views=views)

  return Batch(part(batch.labelled), part(batch.unlabelled))


def put_texts(texts: Texts, devices: Devices) -> Texts:
  """Texts of all shards, alike on every process, split over all devices."""
  return jax.tree.map(
    lambda a: jax.make_array_from_callback(a.shape, devices.split, lambda i: a[i]),
    texts,
  )

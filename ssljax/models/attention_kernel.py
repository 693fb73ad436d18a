"""Attention without dropout by a kernel of JAX, which doesn't store all the scores.

On a GPU, it's the Triton kernel `jax.experimental.pallas.ops.gpu.attention`; on a TPU,
splash attention. Both know segments, compute in blocks of a row, and have a backward
pass that computes the scores again. (The kernels of cuDNN know segments only behind a
private interface, and don't compute in float32.)
"""

import dataclasses
import importlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from ssljax.errors import UserError
from ssljax.models.config import EncoderConfig
from ssljax.sharding import Devices

Array = jax.Array

# Experimental modules of JAX: another version may lack them.
MODULES = {
  "gpu": "jax.experimental.pallas.ops.gpu.attention",
  "tpu": "jax.experimental.pallas.ops.tpu.splash_attention",
}
GPU_HEAD_WIDTHS = range(16, 129)  # Triton multiplies matrices of at least 16 columns
GPU_LEAST = 8.0  # compute capability: NVIDIA's from Ampere on
GPU_BLOCK = 64  # tokens; a multiple of the blocks of the backward pass
GPU_BACKWARD_BLOCK = 32
TPU_BLOCK = 128  # tokens; splash attention accepts only multiples of 128


@dataclasses.dataclass(frozen=True)
class Kernel:
  """Computes softmax(q k' / sqrt(d)) v within segments.

  Attributes:
    platform: "gpu" or "tpu".
    mesh: the devices that share the rows of a batch; None if there's only one.
    interpret: run the kernel's program without its device, for tests.
  """

  platform: str
  mesh: jax.sharding.Mesh | None = None
  interpret: bool = False

  def __call__(self, q: Array, k: Array, v: Array, segment: Array) -> Array:
    """Returns [n, L, H, d] in the dtype of q.

    Args:
      q, k, v: [n, L, H, d], float32 or bfloat16.
      segment: i32 [n, L]; tokens attend to the tokens with the same number. Padding
        is 0, so it attends to padding.
    """
    attend = _on_gpu if self.platform == "gpu" else _on_tpu
    run = lambda *arrays: attend(*arrays, interpret=self.interpret)
    # XLA can't split a kernel, so each device runs it on its own rows. Under pmap, it
    # does so anyway.
    inside = jax.sharding.get_abstract_mesh().manual_axes
    if self.mesh is not None and not inside and len(q) % self.mesh.size == 0:
      rows = P(self.mesh.axis_names)
      run = jax.shard_map(
        run, mesh=self.mesh, in_specs=(rows,) * 4, out_specs=rows, check_vma=False
      )
    return run(q, k, v, segment)


def choose(setting: str, config: EncoderConfig, devices: Devices) -> Kernel | None:
  """Returns the kernel with which an encoder runs on these devices; None for plain XLA.

  Args:
    setting: "auto" (a kernel if there is one), "plain", or "kernel" (it must exist).

  Raises:
    UserError: the setting is "kernel", and no kernel can be used.
  """
  if setting == "plain":
    return None
  device = devices.mesh.devices.flat[0]
  problem = _problem(config, device)
  if problem and setting == "kernel":
    raise UserError(
      f"--config.attention=kernel: {problem}; set --config.attention=auto"
    )
  if problem:
    return None
  return Kernel(device.platform, devices.mesh if devices.shards > 1 else None)


def _problem(config: EncoderConfig, device: jax.Device) -> str:
  """Says why no kernel can be used; "" if one can."""
  if config.relative_attention:
    return "no kernel knows the relative positions of DeBERTa"
  name = device.platform.upper()
  if device.platform not in MODULES:
    return f"kernels need a GPU or a TPU, and this is a {name}"
  try:
    importlib.import_module(MODULES[device.platform])
  except ImportError:
    return f"JAX {jax.__version__} has no kernel for {name}s"
  if device.platform == "tpu":
    return ""
  width = config.hidden_size // config.num_attention_heads
  if width not in GPU_HEAD_WIDTHS:
    widths = f"{GPU_HEAD_WIDTHS[0]} to {GPU_HEAD_WIDTHS[-1]}"
    return f"the kernel for GPUs needs heads of width {widths}, not {width}"
  generation = str(device.compute_capability)  # AMD's has letters, such as gfx90a
  if not (generation.replace(".", "").isdigit() and float(generation) >= GPU_LEAST):
    return f"the kernel needs compute capability {GPU_LEAST}, not {generation}"
  return ""


def _on_gpu(q: Array, k: Array, v: Array, segment: Array, interpret: bool) -> Array:
  attention = importlib.import_module(MODULES["gpu"])
  # The kernel accepts only multiples of the block, which must be a power of two.
  block = min(GPU_BLOCK, max(16, 1 << (q.shape[1] - 1).bit_length()))
  backward = min(GPU_BACKWARD_BLOCK, block)
  blocks = attention.BlockSizes(block, block, backward, backward, backward, backward)

  def run(q, k, v, segment):
    scale = float(1 / np.sqrt(q.shape[-1]))
    return attention.mha(
      q, k, v, segment, scale, block_sizes=blocks, interpret=interpret
    )

  return _padded(run, block, q, k, v, segment)


def _on_tpu(q: Array, k: Array, v: Array, segment: Array, interpret: bool) -> Array:
  splash = importlib.import_module(MODULES["tpu"])

  def run(q, k, v, segment):
    length, heads = q.shape[1:3]
    everywhere = splash.FullMask((length, length))
    attend = splash.make_splash_mha_single_device(
      splash.MultiHeadMask([everywhere] * heads),
      block_sizes=splash.BlockSizes.get_default(),
      interpret=interpret,
    )
    # The kernel has no scale. Scaling in float32 rounds each entry of q once.
    q = (q.astype(jnp.float32) / np.sqrt(q.shape[-1])).astype(q.dtype)
    q, k, v = (a.swapaxes(1, 2) for a in (q, k, v))  # [n, H, L, d]
    one_row = lambda q, k, v, ids: attend(q, k, v, splash.SegmentIds(ids, ids))
    return jax.vmap(one_row)(q, k, v, segment).swapaxes(1, 2)

  return _padded(run, TPU_BLOCK, q, k, v, segment)


def _padded(
  run: Callable[..., Array], block: int, q: Array, k: Array, v: Array, segment: Array
) -> Array:
  """Pads the rows to a multiple of `block`, with tokens that count as padding."""
  length = q.shape[1]
  missing = -length % block
  pad = lambda a: jnp.pad(a, [(0, 0), (0, missing)] + [(0, 0)] * (a.ndim - 2))
  return run(*(pad(a) for a in (q, k, v, segment)))[:, :length]

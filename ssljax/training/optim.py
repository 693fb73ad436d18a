"""The optimiser: AdamW with layer-wise decay, warm-up and the 7/16 cosine."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Array = jax.Array


def schedule(peak: float, warmup: int, total: int) -> optax.Schedule:
  """Linear warm-up, then 7/16 of half a cosine wave, which ends at 0.195 of the peak.

  Args:
    peak: the learning rate at step `warmup`.
    warmup: steps of warm-up; 0 starts at the peak.
    total: steps in all.

  Returns:
    step count (int or i32 []) -> learning rate, strongly typed f32 [].
  """
  rest = max(total - warmup, 1)

  def rate(count) -> Array:
    t = jnp.asarray(count, jnp.float32)
    rising = t / max(warmup, 1)
    falling = jnp.maximum(0.0, jnp.cos(math.pi * 7 / 16 * (t - warmup) / rest))
    factor = jnp.where(t < warmup, rising, falling)
    return jnp.asarray(peak, jnp.float32) * factor

  return rate


def make(
  params: Any,
  *,
  learning_rate: float,
  weight_decay: float,
  layer_decay: float,
  warmup: int,
  total: int,
  clip: float,
) -> optax.GradientTransformation:
  """AdamW (b1 0.9, b2 0.999, eps 1e-8) as for fine-tuning an encoder.

  A group's learning rate is `schedule` times layer_decay ** (max_id - id), where id is
  0 for the embeddings, i + 1 for encoder layer i, and max_id = layers + 1 for the
  heads. Biases and norms have no weight decay.

  Args:
    params: the parameters, or their shapes: {"encoder": {...}, head: {...}, ...}, the
      leaves of encoder/layers with a leading axis [layers]. Only names and shapes are
      read.
    learning_rate: of the heads, at its peak.
    weight_decay: decoupled, times the learning rate of the group.
    layer_decay: 1 gives every group the same learning rate.
    warmup: steps, see `schedule`.
    total: steps, see `schedule`.
    clip: largest global norm of the gradients; 0 leaves them as they are.
  """
  layers = _layers(params)
  factors = jax.tree_util.tree_map_with_path(
    lambda path, leaf: _factor(_names(path), np.ndim(leaf), layers, layer_decay), params
  )
  decayed = jax.tree_util.tree_map_with_path(
    lambda path, leaf: _is_decayed(_names(path), np.ndim(leaf)), params
  )
  steps = [
    optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
    # Before the factor: what a group's learning rate scales includes its decay.
    optax.add_decayed_weights(weight_decay, mask=decayed),
    _scale_by(factors),
    optax.scale_by_learning_rate(schedule(learning_rate, warmup, total)),
  ]
  if clip:
    steps.insert(0, optax.clip_by_global_norm(clip))
  return optax.chain(*steps)


def _names(path) -> tuple[str, ...]:
  return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def _layers(params: Any) -> int:
  """Number of encoder layers, read off the leading axis of the stacked leaves."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if _names(path)[:2] == ("encoder", "layers"):
      return np.shape(leaf)[0]
  return 0


def _factor(names: tuple[str, ...], ndim: int, layers: int, decay: float) -> np.ndarray:
  """f32, broadcastable to the leaf: [] or, for stacked layers, [layers, 1, ...]."""
  highest = layers + 1
  if names[0] != "encoder":
    at = np.array(highest)
  elif names[1] == "layers":
    at = np.arange(1, layers + 1).reshape(-1, *[1] * (ndim - 1))
  elif names[1] in ("conv", "conv_norm"):
    at = np.array(1)  # DeBERTa-v2's convolution joins after the first layer
  else:
    # The embeddings, and DeBERTa's table of relative positions with its norm: it is a
    # table of embeddings. (In USB no pattern matches it, so that it learns with the
    # rate of the heads, by accident.)
    at = np.array(0)
  return np.asarray(np.power(float(decay), highest - at), np.float32)


def _is_decayed(names: tuple[str, ...], ndim: int) -> bool:
  # By name, because a stack of layers or voters gives biases a second axis.
  stacked = names[:2] == ("encoder", "layers")
  return names[-1] not in ("bias", "scale") and ndim - stacked > 1


def _scale_by(factors: Any) -> optax.GradientTransformation:
  return optax.stateless(
    lambda updates, params: jax.tree.map(lambda u, f: u * f, updates, factors)
  )

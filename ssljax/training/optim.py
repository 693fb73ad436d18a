"""Builds the optimiser: AdamW with layer-wise decay, warm-up and a cosine schedule."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssljax.models.classifier import NETWORK

Array = jax.Array


def schedule(peak: float, warmup: int, total: int) -> optax.Schedule:
  """Linear warm-up, then cos(7/16 pi t), which ends at 0.195 of the peak.

  Args:
    peak: the learning rate at step `warmup`.
    warmup: number of warm-up steps. With 0, the schedule starts at the peak.
    total: number of steps of the run.

  Returns:
    Maps the step (int or i32 []) to the learning rate, a strongly typed f32 [].
  """
  decay_steps = max(total - warmup, 1)

  def rate(count) -> Array:
    t = jnp.asarray(count, jnp.float32)
    rising = t / max(warmup, 1)
    falling = jnp.maximum(0.0, jnp.cos(math.pi * 7 / 16 * (t - warmup) / decay_steps))
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
  """AdamW (b1 0.9, b2 0.999, eps 1e-8) for fine-tuning an encoder.

  The learning rate of a group of parameters is `schedule` times
  layer_decay ** (max_id - id), where id is 0 for the embeddings, i + 1 for encoder
  layer i, and max_id = layers + 1 for the heads. Biases and norms have no weight decay.

  Args:
    params: the parameters, or their shapes: {"encoder": {...}, head: {...}, ...}. The
      leaves of encoder/layers have a leading axis [layers]. Further networks have the
      same groups as the first.
    learning_rate: peak learning rate of the heads.
    weight_decay: decoupled, multiplied by the learning rate of the group.
    layer_decay: 1 gives every group the same learning rate.
    warmup, total: see `schedule`.
    clip: maximum global norm of the gradients; 0 turns clipping off.
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
    # This precedes the factors, so that they scale the weight decay as well.
    optax.add_decayed_weights(weight_decay, mask=decayed),
    optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, factors)),
    optax.scale_by_learning_rate(schedule(learning_rate, warmup, total)),
  ]
  if clip:
    steps.insert(0, optax.clip_by_global_norm(clip))
  return optax.chain(*steps)


def _names(path) -> tuple[str, ...]:
  """The names on the path of a parameter, inside its network."""
  names = tuple(jax.tree_util.keystr((key,), simple=True) for key in path)
  return names[1:] if names[0].startswith(NETWORK) else names


def _layers(params: Any) -> int:
  """Number of encoder layers: the leading axis of the stacked leaves."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if _names(path)[:2] == ("encoder", "layers"):
      return np.shape(leaf)[0]
  return 0


def _factor(names: tuple[str, ...], ndim: int, layers: int, decay: float) -> np.ndarray:
  """Learning-rate factor, f32 [] or, for stacked layers, [layers, 1, ...]."""
  max_id = layers + 1
  if names[0] != "encoder":
    group = np.array(max_id)
  elif names[1] == "layers":
    group = np.arange(1, layers + 1).reshape(-1, *[1] * (ndim - 1))
  elif names[1] in ("conv", "conv_norm"):
    group = np.array(1)  # DeBERTa-v2's convolution follows the first layer
  else:
    # The embeddings, including DeBERTa's relative position embeddings with their norm.
    # (In USB, the relative ones get the rate of the heads: its patterns miss them.)
    group = np.array(0)
  return np.asarray(np.power(float(decay), max_id - group), np.float32)


def _is_decayed(names: tuple[str, ...], ndim: int) -> bool:
  # The name matters as well, since biases of stacked layers or voters have two axes.
  stacked = names[:2] == ("encoder", "layers")
  return names[-1] not in ("bias", "scale") and ndim - stacked > 1

"""Quantiles of each class, computed by counting instead of sorting."""

import jax
import jax.numpy as jnp

Array = jax.Array


def class_quantiles(
  value: Array, label: Array, classes: int, share: float
) -> tuple[Array, Array]:
  """Computes a quantile of the values in each class.

  Args:
    value: f32 [n].
    label: i32 [n]; rows with a label outside 0..classes-1 are ignored.
    share: which quantile, 0 to 1; interpolated linearly, as in numpy.quantile.

  Returns:
    The quantiles f32 [classes], 0 if a class is empty, and the numbers of rows
    i32 [classes].
  """
  inside = (label >= 0) & (label < classes)
  label = jnp.where(inside, label, classes)  # an extra class for the others
  count = jnp.zeros(classes + 1, jnp.int32).at[label].add(1)
  position = share * jnp.maximum(count - 1, 0).astype(jnp.float32)
  low = jnp.floor(position)
  ranks = jnp.stack([low, jnp.ceil(position)]).astype(jnp.int32)
  below, above = jax.vmap(lambda rank: smallest(value, label, rank))(ranks)
  quantile = below + (position - low) * (above - below)
  return jnp.where(count > 0, quantile, 0.0)[:classes], count[:classes]


def smallest(value: Array, label: Array, rank: Array) -> Array:
  """For each class, finds the value that has `rank` smaller values in its class.

  This is a radix select. There are three passes over the values. Each finds eleven bits
  of the result by counting, starting with the highest bits.

  Args:
    value: f32 [n].
    label: i32 [n], in 0..K-1.
    rank: i32 [K]; the result is arbitrary for a class with `rank` values or fewer.

  Returns:
    f32 [K].
  """
  bits = jax.lax.bitcast_convert_type(value, jnp.uint32)
  top = jnp.uint32(1 << 31)
  key = jnp.where(bits >= top, ~bits, bits | top)  # has the same order as the values
  prefix = jnp.zeros(rank.shape[0], jnp.uint32)
  for shift in (22, 11, 0):
    matches = (key ^ prefix[label]) >> shift >> 11 == 0  # agrees in all higher bits
    digit = ((key >> shift) & 2047).astype(jnp.int32)
    count = jnp.zeros((rank.shape[0], 2048), jnp.int32).at[label, digit].add(matches)
    total = jnp.cumsum(count, axis=1)
    selected = (total <= rank[:, None]).sum(1, dtype=jnp.int32)
    smaller = jnp.take_along_axis(total - count, selected[:, None], axis=1, mode="clip")
    rank = rank - smaller[:, 0]
    prefix = prefix | (selected.astype(jnp.uint32) << shift)
  bits = jnp.where(prefix >= top, prefix ^ top, ~prefix)
  return jax.lax.bitcast_convert_type(bits, jnp.float32)

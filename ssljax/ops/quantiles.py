"""Quantiles of values by their class, found by counting."""

import jax
import jax.numpy as jnp

Array = jax.Array


def class_quantiles(
  value: Array, label: Array, classes: int, share: float
) -> tuple[Array, Array]:
  """Quantile of the values of each class, without a sort: see `smallest`.

  Args:
    value: f32 [n].
    label: i32 [n]; rows outside 0..classes-1 belong to no class.
    share: which quantile, interpolated linearly (as numpy.quantile).

  Returns:
    f32 [classes] (0 where the class is empty) and i32 [classes], how many rows.
  """
  inside = (label >= 0) & (label < classes)
  label = jnp.where(inside, label, classes)  # the others are one class more
  count = jnp.zeros(classes + 1, jnp.int32).at[label].add(1)
  place = share * jnp.maximum(count - 1, 0).astype(jnp.float32)
  low = jnp.floor(place)
  ranks = jnp.stack([low, jnp.ceil(place)]).astype(jnp.int32)
  below, above = jax.vmap(lambda rank: smallest(value, label, rank))(ranks)
  found = below + (place - low) * (above - below)
  return jnp.where(count > 0, found, 0.0)[:classes], count[:classes]


def smallest(value: Array, label: Array, rank: Array) -> Array:
  """Of each class the value that `rank` others of it stand before; f32 [K].

  Eleven bits at a time, from the highest on, are found by counting (a radix select):
  three passes over the values in place of a sort.

  Args:
    value: f32 [n], label: i32 [n] in 0..K-1, rank: i32 [K]; a class with no more than
      `rank` values gets any number.
  """
  bits = jax.lax.bitcast_convert_type(value, jnp.uint32)
  top = jnp.uint32(1 << 31)
  key = jnp.where(bits >= top, ~bits, bits | top)  # ordered as the values are
  found = jnp.zeros(rank.shape[0], jnp.uint32)
  for shift in (22, 11, 0):
    alike = (key ^ found[label]) >> shift >> 11 == 0  # in all higher bits
    digit = ((key >> shift) & 2047).astype(jnp.int32)
    tally = jnp.zeros((rank.shape[0], 2048), jnp.int32).at[label, digit].add(alike)
    upto = jnp.cumsum(tally, axis=1)
    here = (upto <= rank[:, None]).sum(1, dtype=jnp.int32)
    before = jnp.take_along_axis(upto - tally, here[:, None], axis=1, mode="clip")
    rank = rank - before[:, 0]
    found = found | (here.astype(jnp.uint32) << shift)
  bits = jnp.where(found >= top, found ^ top, ~found)
  return jax.lax.bitcast_convert_type(bits, jnp.float32)

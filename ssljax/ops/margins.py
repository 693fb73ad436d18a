"""Pseudo-margins and their running averages (MarginMatch, MultiMatch).

Tables over all N rows are read and written at the batch's rows only, so that with a
donated state they change in place.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def pseudo_margin(logits: Array) -> Array:
  """PM_c = z_c - max_{i != c} z_i (MarginMatch, section 3); f32 [..., C] -> same.

  The predicted class gets its lead over the runner-up, every other class its
  (negative) gap to the top; in a tie for the top both get 0.
  """
  top = jax.lax.top_k(logits, 2)[0]  # [..., 2]
  leads = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=bool)
  return logits - jnp.where(leads, top[..., 1:], top[..., :1])


def averaged(average: Array, margin: Array, age: Array, smoothness: float) -> Array:
  """APM_t = PM_t d / (1 + t) + APM_{t-1} (1 - d / (1 + t)) (MarginMatch, equation 3).

  Args:
    average, margin: f32 [..., U, C].
    age: i32 [U] or [], t: earlier visits of each row, or the epoch.
    smoothness: d; near 1 this is the mean of all margins so far.
  """
  share = smoothness / (1.0 + age.astype(jnp.float32))
  share = share[..., None] if share.ndim else share
  return share * margin + (1.0 - share) * average


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
  three passes over the values, where a sort of millions takes 20 times as long.

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

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
  """Quantile of the values of each class, by one sort of (class, value).

  Args:
    value: f32 [n].
    label: i32 [n]; rows outside 0..classes-1 belong to no class.
    share: which quantile, interpolated linearly (as numpy.quantile).

  Returns:
    f32 [classes] (0 where the class is empty) and i32 [classes], how many rows.
  """
  inside = (label >= 0) & (label < classes)
  key = jnp.where(inside, label, classes).astype(jnp.int32)
  key, value = jax.lax.sort((key, value), num_keys=2)
  begin = jnp.searchsorted(key, jnp.arange(classes + 1, dtype=jnp.int32))
  count = jnp.diff(begin).astype(jnp.int32)
  place = share * jnp.maximum(count - 1, 0).astype(jnp.float32)
  low = jnp.floor(place)
  last = value.shape[0] - 1
  below = value[jnp.minimum(begin[:-1] + low.astype(jnp.int32), last)]
  above = value[jnp.minimum(begin[:-1] + jnp.ceil(place).astype(jnp.int32), last)]
  found = below + (place - low) * (above - below)
  return jnp.where(count > 0, found, 0.0), count

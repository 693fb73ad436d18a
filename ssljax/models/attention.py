"""Self-attention inside the texts of a packed row, with DeBERTa's relative positions.

The relative terms depend on content and distance alone: for query i and key j they
are x_i . t(i - j). So rows of position vectors are laid out by distance, multiplied as
a matrix, and the result is shifted row by row into place with a reshape. Neither pass
needs a gather or a scatter over [n, H, L, L].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ssljax.models.config import EncoderConfig
from ssljax.models.dropout import dropout

Array = jax.Array

_BLOCK = 128  # queries that share one window of position vectors


def attention_mask(segment: Array) -> Array:
  """Who may read whom, bool [n, 1, L, L]: tokens of one text (segment i32 [n, L])."""
  same = segment[:, :, None] == segment[:, None, :]
  return (same & (segment > 0)[:, None, :])[:, None]


class SelfAttention(nn.Module):
  """Multi-head attention up to and without the output projection."""

  config: EncoderConfig
  dense: Callable[..., nn.Module]  # (features, name) -> a dense layer

  @nn.compact
  def __call__(
    self,
    x: Array,
    segment: Array,
    relative: Array | None,
    rates: tuple[float, float],
    keys: Array | None,
  ) -> Array:
    """Attends.

    Args:
      x: [n, L, D] in the compute dtype.
      segment: i32 [n, L], 0 = padding.
      relative: [2 span, D], embeddings of the distances -span .. span - 1, or None.
      rates: dropout of the relative embeddings and of the attention weights.
      keys: two typed keys [2] for them; None is evaluation.

    Returns:
      [n, L, D] like x.
    """
    config = self.config
    position_key, weight_key = (None, None) if keys is None else keys
    query = self.dense(config.hidden_size, name="query")
    key = self.dense(config.hidden_size, name="key")
    value = self.dense(config.hidden_size, name="value")
    q, k, v = (self._heads(part(x)) for part in (query, key, value))  # [n, L, H, d]

    # transformers counts the terms of pos_att_type in the scale.
    scale = 1 / np.sqrt(q.shape[-1] * (1 + len(set(config.pos_att_type))))
    # Heads first: on CPU a batched product of contiguous matrices takes half the time.
    q, k, v = (part.swapaxes(1, 2) for part in (q, k, v))  # [n, H, L, d]
    score = jnp.matmul(q, k.swapaxes(2, 3), preferred_element_type=jnp.float32)
    if relative is not None:
      relative = dropout(relative, rates[0], position_key)
      if config.share_att_key:
        position_k, position_q = key, query
      else:
        position_k = position_q = None
        if "c2p" in config.pos_att_type:
          position_k = self.dense(config.hidden_size, name="position_key")
        if "p2c" in config.pos_att_type:
          position_q = self.dense(config.hidden_size, name="position_query")
      distances = _distances(config)
      if "c2p" in config.pos_att_type:
        table = self._heads(position_k(relative))  # [2 span, H, d]
        score += by_distance(q, table, distances)
      if "p2c" in config.pos_att_type:
        table = self._heads(position_q(relative))
        # Key j reads the distance to query i: i - j = -(j - i).
        mirrored = lambda d: distances(-d)
        score += by_distance(k, table, mirrored).swapaxes(-1, -2)
    score = jnp.where(attention_mask(segment), score * scale, _LOWEST)
    # A padding token reads every token alike: finite, and nobody reads it.
    weight = jax.nn.softmax(score, axis=-1).astype(x.dtype)  # [n, H, L, L]
    weight = dropout(weight, rates[1], weight_key)
    return jnp.matmul(weight, v).swapaxes(1, 2).reshape(x.shape)

  def _heads(self, x: Array) -> Array:
    return x.reshape(*x.shape[:-1], self.config.num_attention_heads, -1)


_LOWEST = float(np.finfo(np.float32).min)


def _distances(config: EncoderConfig) -> Callable[[np.ndarray], np.ndarray]:
  """The row of the relative embeddings for each distance (query - key)."""
  span = config.relative_span

  def rows(distance: np.ndarray) -> np.ndarray:
    if config.position_buckets > 0:
      distance = buckets(
        distance, config.position_buckets, config.max_relative_positions
      )
    return np.clip(distance + span, 0, 2 * span - 1)

  return rows


def buckets(distance: np.ndarray, count: int, limit: int) -> np.ndarray:
  """DeBERTa's log buckets: exact up to count / 2, then wider and wider.

  Args:
    distance: i64, any shape.
    count: buckets of each sign.
    limit: distance that falls into the last bucket.

  Returns:
    i64 of the same shape. Computed in float32, as transformers does: the last digit
    decides to which side a distance at a bucket's edge falls.
  """
  middle = count // 2
  size = np.maximum(np.abs(distance), middle - 1)
  ratio = np.log((size / middle).astype(np.float32))
  ratio = ratio / np.log(np.float32((limit - 1) / middle))
  far = np.ceil(ratio * np.float32(middle - 1)).astype(np.int64) + middle
  near = np.abs(distance) <= middle
  return np.where(near, distance, np.sign(distance) * far)


def by_distance(
  x: Array, table: Array, rows: Callable[[np.ndarray], np.ndarray]
) -> Array:
  """out[n, h, i, j] = x[n, h, i] . table[rows(i - j), h].

  Args:
    x: [n, H, L, d].
    table: [R, H, d].
    rows: from distances to rows of the table; NumPy, so it is a constant of the
      compiled program.

  Returns:
    f32 [n, H, L, L].
  """
  n, heads, length, width = x.shape
  block = min(_BLOCK, length)
  blocks = -(-length // block)
  x = jnp.pad(x, ((0, 0), (0, 0), (0, blocks * block - length), (0, 0)))
  x = x.reshape(n, heads, blocks, block, width)
  # Column c of a block that starts at s stands for the distance s + block - 1 - c.
  window = length + block
  start = np.arange(blocks)[:, None] * block
  distance = start + block - 1 - np.arange(window)
  index = rows(np.clip(distance, 1 - length, length - 1))  # [blocks, window]
  score = jnp.einsum(
    "nhbid,bwhd->nhbiw", x, table[index], preferred_element_type=jnp.float32
  )  # f32 [n, H, blocks, block, window]
  # Row i of the block needs the columns block - 1 - i + j. In the flat array these
  # are i (window - 1) + (block - 1) + j: rows of one entry less, read from block - 1.
  flat = score.reshape(n, heads, blocks, block * window)
  flat = flat[..., block - 1 : block - 1 + block * (window - 1)]
  shifted = flat.reshape(n, heads, blocks, block, window - 1)[..., :length]
  return shifted.reshape(n, heads, blocks * block, length)[:, :, :length]

"""Self-attention within the texts of a packed row, with DeBERTa's relative positions.

The relative terms depend on content and distance only: for query i and key j they are
x_i . t(i - j). They are computed as one matrix product with the position vectors in
order of distance; a reshape then shifts each row of the result into place. Neither the
forward nor the backward pass needs a gather or a scatter over [n, H, L, L].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ssljax.models.config import EncoderConfig
from ssljax.models.dropout import dropout

Array = jax.Array

_BLOCK = 128  # queries that share a window of position vectors
_LOWEST = float(np.finfo(np.float32).min)


def attention_mask(segment: Array) -> Array:
  """Which query sees which key, bool [n, 1, L, L]: tokens of the same text.

  Args:
    segment: i32 [n, L], 0 = padding.
  """
  same = segment[:, :, None] == segment[:, None, :]
  return (same & (segment > 0)[:, None, :])[:, None]


class SelfAttention(nn.Module):
  """Multi-head attention without the output projection."""

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
    """Returns the concatenated heads, [n, L, D] like x.

    Args:
      x: [n, L, D] in the compute dtype.
      segment: i32 [n, L], 0 = padding.
      relative: [2 span, D], embeddings of the distances -span .. span - 1, or None.
      rates: dropout rates of the relative embeddings and of the attention weights.
      keys: typed keys [2] for the two; None in evaluation mode.
    """
    config = self.config
    position_key, weight_key = (None, None) if keys is None else keys
    query = self.dense(config.hidden_size, name="query")
    key = self.dense(config.hidden_size, name="key")
    value = self.dense(config.hidden_size, name="value")
    q, k, v = (self._heads(dense(x)) for dense in (query, key, value))  # [n, L, H, d]

    # As in transformers, the scale depends on the number of terms.
    scale = 1 / np.sqrt(q.shape[-1] * (1 + len(set(config.pos_att_type))))
    # Heads first: batched products of contiguous matrices take half the time on CPU.
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # [n, H, L, d]
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
        # Here the key j comes first, and i - j = -(j - i).
        mirrored = lambda d: distances(-d)
        score += by_distance(k, table, mirrored).swapaxes(-1, -2)
    score = jnp.where(attention_mask(segment), score * scale, _LOWEST)
    # For padding the softmax is uniform: finite, and never used.
    weight = jax.nn.softmax(score, axis=-1).astype(x.dtype)  # [n, H, L, L]
    weight = dropout(weight, rates[1], weight_key)
    return jnp.matmul(weight, v).swapaxes(1, 2).reshape(x.shape)

  def _heads(self, x: Array) -> Array:
    return x.reshape(*x.shape[:-1], self.config.num_attention_heads, -1)


def _distances(config: EncoderConfig) -> Callable[[np.ndarray], np.ndarray]:
  """Maps distances (query - key) to rows of the relative embeddings."""
  span = config.relative_span

  def rows(distance: np.ndarray) -> np.ndarray:
    if config.position_buckets > 0:
      distance = buckets(
        distance, config.position_buckets, config.max_relative_positions
      )
    return np.clip(distance + span, 0, 2 * span - 1)

  return rows


def buckets(distance: np.ndarray, count: int, limit: int) -> np.ndarray:
  """DeBERTa's logarithmic buckets: exact up to count / 2, then increasingly wide.

  Args:
    distance: i64, any shape.
    count: number of buckets of each sign.
    limit: distance that falls into the last bucket.

  Returns:
    i64 of the same shape. Computed in float32 as in transformers, since rounding
    decides which bucket a distance at an edge falls into.
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
    rows: maps distances to rows of the table, in NumPy: the result is a constant of
      the compiled program.

  Returns:
    f32 [n, H, L, L].
  """
  n, heads, length, width = x.shape
  block = min(_BLOCK, length)
  blocks = -(-length // block)
  x = jnp.pad(x, ((0, 0), (0, 0), (0, blocks * block - length), (0, 0)))
  x = x.reshape(n, heads, blocks, block, width)
  # In the block that starts at query s, column c is the distance s + block - 1 - c.
  window = length + block
  start = np.arange(blocks)[:, None] * block
  distance = start + block - 1 - np.arange(window)
  index = rows(np.clip(distance, 1 - length, length - 1))  # [blocks, window]
  score = jnp.einsum(
    "nhbid,bwhd->nhbiw", x, table[index], preferred_element_type=jnp.float32
  )  # f32 [n, H, blocks, block, window]
  # Row i of a block needs the columns block - 1 - i + j. In the flattened block, their
  # index is i (window - 1) + (block - 1) + j: rows shorter by one entry, starting at
  # block - 1.
  flat = score.reshape(n, heads, blocks, block * window)
  flat = flat[..., block - 1 : block - 1 + block * (window - 1)]
  shifted = flat.reshape(n, heads, blocks, block, window - 1)[..., :length]
  return shifted.reshape(n, heads, blocks * block, length)[:, :, :length]

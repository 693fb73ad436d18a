"""Self-attention within the texts of a packed row, with DeBERTa's relative positions.

The relative terms depend only on content and distance: for query i and key j, the term
is x_i . t(i - j), where t(d) is the position vector of distance d. One matrix product
with the position vectors, in order of distance, computes all terms; a reshape then
shifts each row of the result into place. Neither the forward nor the backward pass
needs a gather or a scatter over [n, H, L, L].
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ssljax.models.attention_kernel import Kernel
from ssljax.models.config import EncoderConfig
from ssljax.models.dropout import dropout

Array = jax.Array

_BLOCK = 128  # queries that share a window of position vectors
_LOWEST = float(np.finfo(np.float32).min)


class SelfAttention(nn.Module):
  """Multi-head attention without the output projection."""

  config: EncoderConfig
  dense: Callable[..., nn.Module]  # (features, name) -> a dense layer
  kernel: Kernel | None = None  # computes attention without dropout and positions

  @nn.compact
  def __call__(
    self,
    x: Array,
    segment: Array,
    relative: Array | None,
    rates: tuple[float, float],
    keys: Sequence[Array | None],
  ) -> Array:
    """Returns the concatenated heads, [n, L, D] like x.

    Args:
      x: [n, L, D] in the compute dtype.
      segment: i32 [n, L], 0 = padding.
      relative: [2 span, D], embeddings of the distances -span .. span - 1, or None.
      rates: dropout rates of the relative embeddings and of the attention weights.
      keys: one key for each rate, as for `dropout`; None turns that dropout off.
    """
    config = self.config
    dense = functools.partial(self.dense, config.hidden_size)
    heads = lambda x: x.reshape(*x.shape[:-1], config.num_attention_heads, -1)
    query, key, value = dense(name="query"), dense(name="key"), dense(name="value")
    dropped = rates[1] > 0 and keys[1] is not None
    if self.kernel is not None and relative is None and not dropped:
      q, k, v = (heads(f(x)) for f in (query, key, value))  # [n, L, H, d]
      return self.kernel(q, k, v, segment).reshape(x.shape)
    # With the heads first, matrices are contiguous: products take half the time on CPU.
    q, k, v = (heads(f(x)).swapaxes(1, 2) for f in (query, key, value))  # [n, H, L, d]

    # As in transformers, the scale depends on the number of terms in the score.
    scale = 1 / np.sqrt(q.shape[-1] * (1 + len(set(config.pos_att_type))))
    score = jnp.matmul(q, k.swapaxes(2, 3), preferred_element_type=jnp.float32)
    if relative is not None:
      relative = dropout(relative, rates[0], keys[0])
      rows = functools.partial(_table_rows, config)
      if "c2p" in config.pos_att_type:
        project = key if config.share_att_key else dense(name="position_key")
        score += by_distance(q, heads(project(relative)), rows)
      if "p2c" in config.pos_att_type:
        project = query if config.share_att_key else dense(name="position_query")
        # Here the key j comes first, and i - j = -(j - i).
        mirrored = by_distance(k, heads(project(relative)), lambda d: rows(-d))
        score += mirrored.swapaxes(-1, -2)
    same_text = segment[:, :, None] == segment[:, None, :]
    visible = same_text & (segment > 0)[:, None, :]  # [n, query, key]
    score = jnp.where(visible[:, None], score * scale, _LOWEST)
    # Padding gets a uniform softmax, which is finite and never used.
    weight = jax.nn.softmax(score, axis=-1).astype(x.dtype)  # [n, H, L, L]
    weight = dropout(weight, rates[1], keys[1])
    return jnp.matmul(weight, v).swapaxes(1, 2).reshape(x.shape)


def _table_rows(config: EncoderConfig, distance: np.ndarray) -> np.ndarray:
  """Maps distances (query - key) to rows of the table of relative embeddings."""
  if config.position_buckets > 0:
    limit = config.max_relative_positions
    distance = buckets(distance, config.position_buckets, limit)
  span = config.relative_span
  return np.clip(distance + span, 0, 2 * span - 1)


def buckets(distance: np.ndarray, count: int, limit: int) -> np.ndarray:
  """DeBERTa's logarithmic buckets: exact up to count / 2, then increasingly wide.

  Args:
    distance: i64, any shape.
    count: number of buckets for each sign.
    limit: distance that falls into the last bucket.

  Returns:
    i64 of the same shape. As in transformers, the logarithm is in float32, since
    rounding determines the bucket of a distance at the edge of a bucket.
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
  """Computes out[n, h, i, j] = x[n, h, i] . table[rows(i - j), h].

  Args:
    x: [n, H, L, d].
    table: [R, H, d].
    rows: maps a NumPy array of distances to rows of the table.

  Returns:
    f32 [n, H, L, L].
  """
  n, heads, length, width = x.shape
  block = min(_BLOCK, length)
  blocks = -(-length // block)
  x = jnp.pad(x, ((0, 0), (0, 0), (0, blocks * block - length), (0, 0)))
  x = x.reshape(n, heads, blocks, block, width)
  # In the block that starts at query s, column c has the distance s + block - 1 - c.
  window = length + block
  last = block * np.arange(1, blocks + 1) - 1  # the last query of each block
  distance = last[:, None] - np.arange(window)
  index = rows(np.clip(distance, 1 - length, length - 1))  # [blocks, window]
  score = jnp.einsum(
    "nhbid,bwhd->nhbiw", x, table[index], preferred_element_type=jnp.float32
  )  # f32 [n, H, blocks, block, window]
  # For key j, row i of a block needs the column block - 1 - i + j. In the flattened
  # block, the index of this entry is (block - 1) + i (window - 1) + j. So we drop the
  # first block - 1 entries, and reshape to rows of window - 1 entries.
  flat = score.reshape(n, heads, blocks, block * window)
  flat = flat[..., block - 1 : block - 1 + block * (window - 1)]
  shifted = flat.reshape(n, heads, blocks, block, window - 1)[..., :length]
  return shifted.reshape(n, heads, blocks * block, length)[:, :, :length]

"""What flows through a train step: packed texts, and the batch made of them.

The lowest module of the package: it imports nothing of ours.

Axis letters, here and everywhere: B labelled batch, U unlabelled batch, N unlabelled
set, L tokens, D width, C classes, H heads.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray


class Rows(NamedTuple):
  """Rows of one length. S data shards, R rows a shard, L tokens, M slots a row."""

  ids: Array  # i32 [S, R, L]
  segment: Array  # i32 [S, R, L], 0 = padding, k = k-th text of the row
  kind: Array  # i32 [S, R, L], token type: 0 prompt, 1 response
  first: Array  # i32 [S, R, M], where text k + 1 begins (0 for an empty slot)
  embedding: Array | None = None  # f32 [S, R, L, E], word embeddings in place of ids


class Texts(NamedTuple):
  """n texts, laid out shard by shard: shard s holds texts s n/S to (s + 1) n/S.

  The slots of a shard are counted row length by row length, row by row. A further
  leading axis K, of micro-batches, may stand before S in every leaf.
  """

  rows: tuple[Rows, ...]  # one for each row length
  where: Array  # i32 [S, n/S], slot of a text among its shard's slots


class Labelled(NamedTuple):
  views: Mapping[str, Texts]  # "weak", and what else Needs.labelled_views names
  label: Array  # f32 [B, C], one-hot
  index: Array  # i32 [B], row of the labelled set


class Unlabelled(NamedTuple):
  views: Mapping[str, Texts]  # what Needs.views names
  index: Array  # i32 [U], row of the unlabelled set, no repeats


class Batch(NamedTuple):
  """One step's texts. Always full: every row is a real text."""

  labelled: Labelled
  unlabelled: Unlabelled

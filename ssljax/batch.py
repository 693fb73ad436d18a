"""Data types of a train step: packed texts, and batches of them.

This is the lowest module of the package: it imports nothing else from ssljax.

Axis letters, here and everywhere: B labelled batch, U unlabelled batch, N unlabelled
set, L tokens, D width, C classes, H heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray


class Rows(NamedTuple):
  """Rows of one length: S data shards, R rows per shard, L tokens, M slots per row."""

  ids: Array  # i32 [S, R, L]
  segment: Array  # i32 [S, R, L], 0 = padding, k = k-th text of the row
  kind: Array  # i32 [S, R, L], token type: 0 prompt, 1 response
  first: Array  # i32 [S, R, M], index of each text's first token; 0 for an empty slot
  embedding: Array | None = None  # f32 [S, R, L, E], word embeddings in place of ids


@jax.tree_util.register_static
@dataclass(frozen=True)
class RowsOf:
  """Stands for the rows of another view of the batch, which hold these texts as well.

  Only the loader's batches have it: methods get the rows (`Batch.with_shared_rows`).
  """

  part: str  # "labelled" | "unlabelled"
  view: str


class Texts(NamedTuple):
  """n texts, stored shard by shard: shard s holds texts s n/S to (s + 1) n/S.

  Within a shard, slots are numbered by row length first, then by row. All leaves may
  have another leading axis before S: K micro-batches.

  Views that always go through the encoder together share rows: their `rows` are one
  object.
  """

  rows: tuple[Rows, ...] | RowsOf  # one per row length
  where: Array  # i32 [S, n/S], slot of each text within its shard


class SecondCandidate(str):
  """The name under which a batch has a second candidate of the view `first`.

  A text often has several candidates for its strong view, and each visit draws one. A
  method that needs two candidates at once asks for the views "strong" and
  `SecondCandidate("strong")`. The latter is equal to the string "strong_2", its key in
  `Unlabelled.views`.
  """

  first: str

  def __new__(cls, first: str):
    name = super().__new__(cls, f"{first}_2")
    name.first = first
    return name

  def __getnewargs__(self):
    return (self.first,)


class Labelled(NamedTuple):
  views: Mapping[str, Texts]  # "weak", and any others in Needs.labelled_views
  label: Array  # f32 [B, C], one-hot
  index: Array  # i32 [B], row of the labelled set


class Unlabelled(NamedTuple):
  views: Mapping[str, Texts]  # one per entry of Needs.views
  index: Array  # i32 [U], row of the unlabelled set, no repeats


class Batch(NamedTuple):
  """The texts of one step. A batch is always full: every row is a real text."""

  labelled: Labelled
  unlabelled: Unlabelled

  def with_shared_rows(self) -> "Batch":
    """Replaces each `RowsOf` by the rows that it names."""

    def find(texts: Texts) -> Texts:
      if not isinstance(texts.rows, RowsOf):
        return texts
      owner = getattr(self, texts.rows.part).views[texts.rows.view]
      return texts._replace(rows=owner.rows)

    find_all = lambda views: {name: find(texts) for name, texts in views.items()}
    return Batch(
      self.labelled._replace(views=find_all(self.labelled.views)),
      self.unlabelled._replace(views=find_all(self.unlabelled.views)),
    )

  def labelled_and(self, *names: str) -> tuple[Texts, ...]:
    """The weak view of labelled texts, then the views `names` of unlabelled texts."""
    return self.labelled.views["weak"], *(self.unlabelled.views[n] for n in names)

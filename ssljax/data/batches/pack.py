"""Several texts to a row: the batch layout that wastes no padding.

Texts of many lengths are laid into rows of a few lengths (say 128 and 512 tokens).
Attention stays inside a text (`Rows.segment`), positions restart with each text, and
the pooled vectors are put back into the order of the texts (`Texts.where`). One text
to a row is the padded layout: the same types with M = 1.

Laying has two halves. `plan` looks at lengths alone and says where each text goes;
`lay` fills the arrays, with as many rows as it is told, so that a handful of shapes
(`shapes`) serve a whole run and the step is compiled a handful of times.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssljax.batch import Rows, Texts

WASTE = 0.05  # of the work, that saving a compilation may cost
TOKENS_A_SLOT = 8  # a row of L tokens has L / 8 slots: texts are rarely shorter


class Plan(NamedTuple):
  """Where the texts of one shard go: three numbers a text, and the rows it takes."""

  group: np.ndarray  # i64 [n], which row length
  row: np.ndarray  # i64 [n]
  slot: np.ndarray  # i64 [n]
  start: np.ndarray  # i64 [n], first token within the row
  rows: tuple[int, ...]  # rows taken of each length
  longest: int  # tokens of the longest text, 0 if there is none


class Shape(NamedTuple):
  """Rows of one view: (length, rows a shard) for each row length."""

  groups: tuple[tuple[int, int], ...]

  @property
  def tokens(self) -> int:
    """Tokens of a shard, padding included."""
    return sum(length * rows for length, rows in self.groups)


def slots(length: int, packed: bool) -> int:
  """M, the texts that a row of `length` tokens can hold."""
  return max(1, length // TOKENS_A_SLOT) if packed else 1


def plan(lengths: np.ndarray, row_lengths: Sequence[int], packed: bool = True) -> Plan:
  """Lays texts into rows, best fit, longest first.

  Args:
    lengths: i64 [n], tokens of each text, none above the last row length.
    row_lengths: ascending. A text opens a row of the shortest length that holds it,
      unless a row that is open already, of any length, has room.
    packed: False gives each text a row of its own.
  """
  n = len(lengths)
  group, row, slot, start = (np.zeros(n, np.int64) for _ in range(4))
  taken = [0] * len(row_lengths)
  room: list[list[int]] = []  # [free tokens, free slots, group, row] of open rows
  for i in np.argsort(-lengths, kind="stable"):
    length = int(lengths[i])
    best = None
    if packed:
      for candidate in room:
        if (
          candidate[0] >= length
          and candidate[1]
          and (best is None or candidate[0] < best[0])
        ):
          best = candidate
    if best is None:
      g = next(k for k, limit in enumerate(row_lengths) if limit >= length)
      best = [row_lengths[g], slots(row_lengths[g], packed), g, taken[g]]
      taken[g] += 1
      room.append(best)
    free, left, g, r = best
    group[i], row[i] = g, r
    slot[i] = slots(row_lengths[g], packed) - left
    start[i] = row_lengths[g] - free
    best[0] -= length
    best[1] -= 1
  return Plan(group, row, slot, start, tuple(taken), int(lengths.max(initial=0)))


def lay(
  plans: Sequence[Plan],
  texts: Sequence[Sequence[tuple[np.ndarray, int]]],
  shape: Shape,
  packed: bool = True,
) -> Texts:
  """Fills the arrays of one view.

  Args:
    plans: one for each shard.
    texts: for each shard its texts: token ids i32 [length] and how many of them
      belong to the first segment (token type 0).
    shape: rows of each length; at least what the plans take.
    packed: as in `plan`.

  Returns:
    Texts of NumPy arrays with S = len(plans).
  """
  groups = [empty(len(plans), rows, length, packed) for length, rows in shape.groups]
  sizes = [rows * slots(length, packed) for length, rows in shape.groups]
  offset = np.concatenate([[0], np.cumsum(sizes)])
  where = np.zeros((len(plans), len(plans[0].row)), np.int32)
  for s, (p, shard) in enumerate(zip(plans, texts, strict=True)):
    for i, (ids, prompt) in enumerate(shard):
      g, r, k = p.group[i], p.row[i], p.slot[i]
      write(groups[g], (s, r, k), p.start[i], ids, prompt)
      where[s, i] = offset[g] + r * groups[g].first.shape[2] + k
  return Texts(tuple(groups), where)


def empty(shards: int, rows: int, length: int, packed: bool = True) -> Rows:
  """NumPy rows of one length without a text."""
  ids, segment, kind = (np.zeros((shards, rows, length), np.int32) for _ in range(3))
  first = np.zeros((shards, rows, slots(length, packed)), np.int32)
  return Rows(ids, segment, kind, first)


def write(
  rows: Rows, place: tuple[int, int, int], begin: int, ids: np.ndarray, prompt: int
) -> None:
  """Writes a text into `place` (shard, row, slot), from token `begin` of the row on."""
  shard, row, slot = place
  end = begin + len(ids)
  rows.ids[shard, row, begin:end] = ids
  rows.segment[shard, row, begin:end] = slot + 1
  rows.kind[shard, row, begin + prompt : end] = 1
  rows.first[shard, row, slot] = begin


def shapes(need: np.ndarray, cost: np.ndarray, most: int) -> np.ndarray:
  """A few row counts that serve many steps with little waste.

  As few as cost at most a `WASTE`-th more than `most` shapes would: each shape is a
  compilation.

  Args:
    need: i64 [T, V], rows that each of T steps needs, for every view and row length.
    cost: f64 [V], price of a row.
    most: how many shapes at most.

  Returns:
    i64 [<= most, V], ascending; the last serves every step of `need`. Steps are
    ordered by price and cut into equal parts; a part's shape is the largest need of
    all the steps up to its end.
  """
  ordered = need[np.argsort(need @ cost, kind="stable")]

  def cut(count: int) -> np.ndarray:
    ends = np.ceil(np.arange(1, count + 1) * len(ordered) / count).astype(int)
    return np.unique([ordered[:end].max(axis=0) for end in ends], axis=0)

  def price(found: np.ndarray) -> float:
    return sum(float(smallest(found, row, cost) @ cost) for row in need)

  cuts = [cut(count) for count in range(1, most + 1)]
  prices = [price(found) for found in cuts]
  return next(
    found
    for found, paid in zip(cuts, prices, strict=True)
    if paid <= (1 + WASTE) * min(prices)
  )


def smallest(shapes: np.ndarray, need: np.ndarray, cost: np.ndarray) -> np.ndarray:
  """The cheapest of `shapes` i64 [K, V] that holds `need` i64 [V]; else a new one."""
  fits = (shapes >= need).all(axis=1)
  if not fits.any():
    return np.maximum(shapes.max(axis=0), need)
  return shapes[fits][np.argmin(shapes[fits] @ cost)]

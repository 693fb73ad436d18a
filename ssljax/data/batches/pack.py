"""Packs several texts into one row, so that batches waste little on padding.

Texts of many lengths are packed into rows of a few lengths, such as 128 and 512 tokens.
Attention stays within a text (`Rows.segment`), positions restart with each text, and
`Texts.where` puts the pooled vectors back into the order of the texts. The padded
layout, with one text per row, uses the same types with M = 1.

`plan_rows` decides from the lengths where each text goes. `fill_rows` then fills arrays
of a given number of rows. A run uses only a few shapes (`choose_shapes`), so the step
is compiled only a few times.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssljax.batch import Rows, Texts

WASTE = 0.05  # fraction of extra work accepted to avoid a compilation
# A row of L tokens has L / 8 slots, since few texts have fewer than 8 tokens.
TOKENS_PER_SLOT = 8


class Plan(NamedTuple):
  """The positions of the n texts of one shard."""

  group: np.ndarray  # i64 [n], index of the row length
  row: np.ndarray  # i64 [n]
  slot: np.ndarray  # i64 [n]
  start: np.ndarray  # i64 [n], first token within the row
  rows: tuple[int, ...]  # rows of each length
  longest: int  # tokens of the longest text, 0 without texts


def slots_per_row(length: int, packed: bool) -> int:
  """M, the number of texts that a row of `length` tokens can hold."""
  return max(1, length // TOKENS_PER_SLOT) if packed else 1


def plan_rows(
  lengths: np.ndarray, row_lengths: Sequence[int], packed: bool = True
) -> Plan:
  """Assigns texts to rows: best fit, longest text first.

  A text goes into the row with the least free space that is still enough. If no row
  has enough, the text starts a row of the shortest possible length.

  Args:
    lengths: i64 [n], tokens of each text, at most the last row length.
    row_lengths: ascending.
    packed: False gives each text its own row.
  """
  n = len(lengths)
  group, row, slot, start = (np.zeros(n, np.int64) for _ in range(4))
  rows = [0] * len(row_lengths)
  open_rows: list[list[int]] = []  # [free tokens, free slots, group, row]
  for i in np.argsort(-lengths, kind="stable"):
    length = int(lengths[i])
    fitting = [row for row in open_rows if row[0] >= length and row[1]]
    best = min(fitting, key=lambda row: row[0], default=None)
    if best is None:
      g = next(k for k, limit in enumerate(row_lengths) if limit >= length)
      best = [row_lengths[g], slots_per_row(row_lengths[g], packed), g, rows[g]]
      rows[g] += 1
      if packed:
        open_rows.append(best)
    free_tokens, free_slots, g, r = best
    group[i], row[i] = g, r
    slot[i] = slots_per_row(row_lengths[g], packed) - free_slots
    start[i] = row_lengths[g] - free_tokens
    best[0] -= length
    best[1] -= 1
  return Plan(group, row, slot, start, tuple(rows), int(lengths.max(initial=0)))


def fill_rows(
  plans: Sequence[Plan],
  texts: Sequence[Sequence[tuple[np.ndarray, int]]],
  shape: Sequence[tuple[int, int]],
  packed: bool = True,
) -> Texts:
  """Fills the arrays of one view.

  Args:
    plans: one per shard.
    texts: for each shard, the texts as from `Tokens.text`.
    shape: (length, rows per shard) for each row length; at least as many rows as the
      plans need.
    packed: as in `plan_rows`.

  Returns:
    A `Texts` whose leaves are NumPy arrays, with S = len(plans).
  """
  groups = [empty_rows(len(plans), rows, length, packed) for length, rows in shape]
  offset = np.cumsum([0] + [group.first[0].size for group in groups])
  where = np.zeros((len(plans), len(plans[0].row)), np.int32)
  for s, (plan, shard) in enumerate(zip(plans, texts, strict=True)):
    for i, (ids, prompt) in enumerate(shard):
      g, r, k = plan.group[i], plan.row[i], plan.slot[i]
      write_text(groups[g], (s, r, k), plan.start[i], ids, prompt)
      where[s, i] = offset[g] + r * groups[g].first.shape[2] + k
  return Texts(tuple(groups), where)


def empty_rows(shards: int, rows: int, length: int, packed: bool = True) -> Rows:
  """Empty rows of one length, as NumPy arrays."""
  ids, segment, kind = (np.zeros((shards, rows, length), np.int32) for _ in range(3))
  first = np.zeros((shards, rows, slots_per_row(length, packed)), np.int32)
  return Rows(ids, segment, kind, first)


def write_text(
  rows: Rows, position: tuple[int, int, int], start: int, ids: np.ndarray, prompt: int
) -> None:
  """Writes a text into the slot at `position`; its first token goes to index `start`.

  Args:
    position: (shard, row, slot).
    start: index within the row.
    ids: the text.
    prompt: how many of the ids belong to the first segment.
  """
  shard, row, slot = position
  end = start + len(ids)
  rows.ids[shard, row, start:end] = ids
  rows.segment[shard, row, start:end] = slot + 1
  rows.kind[shard, row, start + prompt : end] = 1
  rows.first[shard, row, slot] = start


def choose_shapes(need: np.ndarray, cost: np.ndarray, limit: int) -> np.ndarray:
  """Chooses a few row counts that serve many steps with little waste.

  Each shape has to be compiled. So as few shapes as possible are returned; their cost
  is at most a fraction `WASTE` above the lowest cost with up to `limit` shapes.

  Args:
    need: i64 [T, V], rows that each of T steps needs, for each of the V combinations of
      view and row length.
    cost: f64 [V], cost of a row.
    limit: maximum number of shapes.

  Returns:
    i64 [<= limit, V], ascending; the last serves every step of `need`. The steps are
    sorted by cost and divided into equal parts. The shape of a part is the largest need
    of all steps up to its end.
  """
  ordered = need[np.argsort(need @ cost, kind="stable")]

  def cut(count: int) -> np.ndarray:
    ends = np.ceil(np.arange(1, count + 1) * len(ordered) / count).astype(int)
    return np.unique([ordered[:end].max(axis=0) for end in ends], axis=0)

  def total_cost(shapes: np.ndarray) -> float:
    return sum(float(cheapest_shape(shapes, row, cost) @ cost) for row in need)

  choices = [cut(count) for count in range(1, limit + 1)]
  costs = [total_cost(shapes) for shapes in choices]
  return choices[np.argmax(np.array(costs) <= (1 + WASTE) * min(costs))]


def cheapest_shape(
  shapes: np.ndarray, need: np.ndarray, cost: np.ndarray
) -> np.ndarray:
  """The cheapest of `shapes` i64 [K, V] that holds `need` i64 [V].

  If none of them does, the result is a new shape.
  """
  fits = (shapes >= need).all(axis=1)
  if not fits.any():
    return np.maximum(shapes.max(axis=0), need)
  return shapes[fits][np.argmin(shapes[fits] @ cost)]

"""Gives each step the rows that it needs: for random order and the padded layout.

A run has up to three shapes, each of which has enough rows for a third of its steps.
Batches in random order have very different numbers of tokens, so their rows are filled
less well than `fixed_rows`.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ssljax.data.batches import pack
from ssljax.data.batches.fixed_rows import Lengths, Planned

SHORT_LENGTHS = (128, 256)  # candidates for the length of short rows
MAX_SHAPES = 3  # more shapes need less padding, but more compilation


class RowChoice(NamedTuple):
  row_lengths: tuple[int, ...]
  cost: np.ndarray  # i64 [views x row lengths], cost of a row
  shapes: np.ndarray  # from `pack.choose_shapes`; in the padded layout, row lengths
  price: float  # cost of a step; a token without attention costs 1


class NeededRows:
  """The rows of each view; `choice` has the row lengths that cost least."""

  def __init__(
    self,
    sample: Sequence[Lengths],
    limit: int,
    price: Callable[[int], int],
    packed: bool,
  ):
    """Chooses the shapes from a sample of steps.

    Args:
      sample: the lengths of the texts in some of the steps; each view is a group.
      limit: the length of a row that holds every text.
      price: maps the length of a row to what it costs.
      packed: False gives each text its own row.
    """
    self.packed, self.price, self.views = packed, price, len(sample[0])
    options = row_length_options(limit, packed)
    choices = (self._evaluate(option, sample) for option in options)
    self.choice = min(choices, key=lambda choice: choice.price)

  @property
  def row_lengths(self) -> tuple[int, ...]:
    """All row lengths, ascending; the last one holds every text."""
    return self.choice.row_lengths

  def plan(self, lengths: Lengths) -> tuple[list[Planned], bool]:
    """Plans a step: as `FixedRows.plan`; there is no overflow."""
    plans = self._plan(lengths, self.choice.row_lengths)
    shape = self._shape(self._needed_rows(plans), self.choice)
    return list(map(Planned, plans, shape)), False

  def _evaluate(self, row_lengths: tuple[int, ...], sample) -> RowChoice:
    """Chooses shapes for these row lengths and computes the mean cost of a step."""
    plans = (self._plan(step, row_lengths) for step in sample)
    needs = np.array([self._needed_rows(plan) for plan in plans])
    cost = np.tile([self.price(length) for length in row_lengths], self.views)
    if self.packed:
      shapes = pack.choose_shapes(needs, cost, MAX_SHAPES)
    else:  # a few lengths, multiples of 8, that hold the longest texts of all steps
      longest = np.sort(needs[:, 0])
      ends = np.ceil(np.arange(1, MAX_SHAPES + 1) * len(longest) / MAX_SHAPES) - 1
      shapes = np.unique(-(-longest[ends.astype(int)] // 8) * 8)
    choice = RowChoice(row_lengths, cost, shapes, math.nan)
    views = [view for need in needs for view in self._shape(need, choice)]
    prices = [rows * self.price(length) for view in views for length, rows in view]
    return choice._replace(price=sum(prices) / len(needs))

  def _plan(self, lengths: Lengths, row_lengths: tuple[int, ...]):
    """[view][micro-batch][shard] -> plan."""
    if not self.packed:
      row_lengths = (max(int(s.max()) for v in lengths for k in v for s in k),)
    return [
      [[pack.plan_rows(shard, row_lengths, self.packed) for shard in m] for m in view]
      for view in lengths
    ]

  def _needed_rows(self, plans) -> np.ndarray:
    """Rows for each view and row length.

    In the padded layout, the length of the longest text precedes them.
    """
    by_view = [[plan for micro in view for plan in micro] for view in plans]
    rows = np.ravel([np.max([p.rows for p in view], axis=0) for view in by_view])
    if self.packed:
      return rows
    return np.array([max(p.longest for view in by_view for p in view), *rows])

  def _shape(self, need: np.ndarray, choice: RowChoice) -> list[list[tuple[int, int]]]:
    """[view][row length] -> (length, rows) of a batch."""
    if self.packed:
      shape = pack.cheapest_shape(choice.shapes, need, choice.cost)
      by_view = shape.reshape(self.views, -1).tolist()
      return [list(zip(choice.row_lengths, rows, strict=True)) for rows in by_view]
    limit = choice.row_lengths[-1]
    fits = [int(length) for length in choice.shapes if length >= need[0]]
    length = min(fits[0], limit) if fits else limit
    return [[(length, int(rows))] for rows in need[1:]]


def row_length_options(limit: int, packed: bool = True) -> list[tuple[int, ...]]:
  """The row lengths to consider for texts of up to `limit` tokens.

  A single row length wastes least on padding: a compiled step has fixed row counts, so
  with two lengths, each count must suffice for the step that needs most rows of that
  length. Short rows save attention, whose cost grows with the square of the row length.
  Which effect is larger depends on the texts and the batch size; `RowChoice.price`
  compares the two.
  """
  shorter = [length for length in SHORT_LENGTHS if packed and length < limit]
  return [(limit,), *((length, limit) for length in shorter)]

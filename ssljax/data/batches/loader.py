"""Builds batch t, laid out for the devices, as a pure function of (seed, t).

A batch is a slice of the epoch's permutation (`order`), so batches are always full and
no batch has an unlabelled row twice. A resumed run needs to know only its step.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import grain
import jax
import numpy as np

from ssljax.batch import Batch, Labelled, Texts, Unlabelled
from ssljax.data.batches import order, pack
from ssljax.data.batches.tokenize import Tokens
from ssljax.errors import UserError

PLANNED_STEPS = 512  # number of steps sampled to choose the shapes
SHORT_LENGTHS = (128, 256)  # candidates for the length of short rows
# More shapes need less padding, but more compilation (docs/performance.md).
MAX_SHAPES = 3


Seed = int | np.uint64


class View(NamedTuple):
  """One view of n rows. In each epoch, one candidate of each row is drawn."""

  tokens: Tokens  # all candidates, row by row
  begin: np.ndarray  # i64 [n + 1], row i has candidates begin[i] to begin[i + 1] - 1

  def draw(
    self, seed: Seed, epoch: np.ndarray, rows: np.ndarray, taken: Seed | None = None
  ) -> np.ndarray:
    """Draws a candidate for each row; depends only on (seed, epoch, row).

    Args:
      taken: seed of another view of the same candidates. Rows with at least two
        candidates get one that the other view doesn't draw.

    Returns:
      i64, indices into `tokens`.
    """
    count = (self.begin[rows + 1] - self.begin[rows]).astype(np.uint64)
    random = order.scramble(seed, epoch, rows)
    candidate = random % count
    if taken is not None:
      others = np.maximum(count, 2) - np.uint64(1)
      first = order.scramble(taken, epoch, rows) % count
      candidate = (first + np.uint64(1) + random % others) % count
    return self.begin[rows] + candidate.astype(np.int64)


class TrainSet(NamedTuple):
  """The tokenised train rows, for each view that the method reads."""

  labelled: Mapping[str, View]
  unlabelled: Mapping[str, View]
  label: np.ndarray  # i32 [labelled]
  hidden: np.ndarray  # i32 [N], labels of unlabelled rows for reports; -1 if unknown


class Layout(NamedTuple):
  shards: int  # data shards over all devices
  micro: int  # micro-batches of gradient accumulation, 1 for none
  options: Sequence[tuple[int, ...]]  # see `row_length_options`
  packed: bool
  costly: float = math.inf  # EncoderConfig.costly_length


class RowChoice(NamedTuple):
  row_lengths: tuple[int, ...]
  cost: np.ndarray  # i64 [views x row lengths], cost of a row
  shapes: np.ndarray  # from `pack.choose_shapes`; in the padded layout, row lengths
  price: float  # cost of a step; a token without attention costs 1


class Loader:
  """Builds the batch of each step; `choice` has the row lengths that cost least."""

  def __init__(
    self,
    data: TrainSet,
    *,
    batch: int,
    unlabelled_batch: int,
    classes: int,
    seed: int,
    steps: int,
    layout: Layout,
  ):
    """Chooses the shapes for `steps` steps.

    Args:
      classes: width of the one-hot labels, including virtual classes.

    Raises:
      UserError: a batch size that isn't a multiple of shards x micro-batches, or a
        batch with more unlabelled texts than the dataset has.
    """
    self.data, self.layout, self.classes = data, layout, classes
    parts = layout.shards * layout.micro
    sizes = {"batch": batch, "batch * unlabelled_ratio": unlabelled_batch}
    for name, size in sizes.items():
      if size % parts:
        raise UserError(
          f"{name} = {size} is not divisible by {layout.shards} device shards x "
          f"{layout.micro} micro-batches; use a multiple of {parts}"
        )
    rows = len(data.hidden)
    if unlabelled_batch > rows:
      raise UserError(
        f"a batch needs {unlabelled_batch} unlabelled texts, but there are only "
        f"{rows}; lower batch or unlabelled_ratio, or add unlabelled texts"
      )
    # grain adds the epoch to its seed, so consecutive seeds would share permutations.
    seeds = order.scramble(seed, np.zeros(2, int), np.arange(2)) >> np.uint64(33)
    self._rows_of = {
      "labelled": order.batch_rows(len(data.label), batch, int(seeds[0])),
      "unlabelled": order.batch_rows(rows, unlabelled_batch, int(seeds[1])),
    }
    self.views = [("labelled", name) for name in data.labelled]
    self.views += [("unlabelled", name) for name in data.unlabelled]
    # Each view has its own seed, so that views of the same candidates are independent.
    names = np.array([zlib.crc32(name.encode()) for _, name in self.views])
    view_seeds = order.scramble(seed, np.zeros(len(names), int), names)
    self._seed_of = dict(zip(self.views, view_seeds, strict=True))
    sample = np.unique(np.linspace(0, max(steps - 1, 0), PLANNED_STEPS).astype(int))
    lengths = [self._arrange(_text_lengths, t) for t in sample]
    choices = (self._evaluate(option, lengths) for option in layout.options)
    self.choice = min(choices, key=lambda choice: choice.price)

  def order(self, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of batch t: labelled i64 [B], unlabelled i64 [U]."""
    return self._rows_of["labelled"](t)[0], self._rows_of["unlabelled"](t)[0]

  def batch(
    self, t: int, shards: Sequence[int] | None = None
  ) -> tuple[Batch, np.ndarray]:
    """Batch t with NumPy leaves, and the hidden labels i32 [U] of its unlabelled rows.

    Args:
      shards: the data shards of this process; only these get texts; default: all
        shards. Labels and indices always cover the whole batch.
    """
    texts = self._arrange(lambda tokens, rows: [tokens.text(i) for i in rows], t)
    plans = self._plan(self._arrange(_text_lengths, t), self.choice.row_lengths)
    shape = self._shape(self._needed_rows(plans), self.choice)
    shards = range(self.layout.shards) if shards is None else shards
    views: dict[str, dict[str, Texts]] = {"labelled": {}, "unlabelled": {}}
    for v, (part, name) in enumerate(self.views):
      micro_batches = [
        pack.fill_rows(
          [plans[v][k][s] for s in shards],
          [texts[v][k][s] for s in shards],
          shape[v],
          self.layout.packed,
        )
        for k in range(self.layout.micro)
      ]
      # Gradient accumulation adds a leading axis K.
      stack = lambda *leaves: np.stack(leaves) if len(leaves) > 1 else leaves[0]
      views[part][name] = jax.tree.map(stack, *micro_batches)
    labelled, unlabelled = self.order(t)
    label = np.eye(self.classes, dtype=np.float32)[self.data.label[labelled]]
    return Batch(
      Labelled(views["labelled"], label, labelled.astype(np.int32)),
      Unlabelled(views["unlabelled"], unlabelled.astype(np.int32)),
    ), self.data.hidden[unlabelled]

  def iterate(self, start: int, stop: int, shards: Sequence[int]) -> Iterator:
    """Yields batches start to stop - 1, prefetched by grain's threads."""
    steps = grain.MapDataset.range(start, stop)
    batches = steps.map(lambda t: self.batch(int(t), shards))
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    return iter(batches.to_iter_dataset(options))

  def _row_cost(self, length: int) -> int:
    # An integer, so that all processors compute the same sums and sort them alike.
    return round(length * (1 + length / self.layout.costly))

  def _evaluate(self, row_lengths: tuple[int, ...], lengths) -> RowChoice:
    """Chooses shapes for these row lengths and computes the mean cost of a step."""
    plans = (self._plan(step, row_lengths) for step in lengths)
    needs = np.array([self._needed_rows(plan) for plan in plans])
    cost = np.tile([self._row_cost(length) for length in row_lengths], len(self.views))
    if self.layout.packed:
      shapes = pack.choose_shapes(needs, cost, MAX_SHAPES)
    else:  # a few lengths, multiples of 8, that hold the longest texts of all steps
      longest = np.sort(needs[:, 0])
      ends = np.ceil(np.arange(1, MAX_SHAPES + 1) * len(longest) / MAX_SHAPES) - 1
      shapes = np.unique(-(-longest[ends.astype(int)] // 8) * 8)
    choice = RowChoice(row_lengths, cost, shapes, math.nan)
    views = [view for need in needs for view in self._shape(need, choice)]
    prices = [rows * self._row_cost(length) for view in views for length, rows in view]
    return choice._replace(price=sum(prices) / len(needs))

  def _arrange(self, read: Callable[[Tokens, np.ndarray], Sequence], t: int):
    """[view][micro-batch][shard] -> `read` of the texts of batch t."""
    rows_of = {part: rows(t) for part, rows in self._rows_of.items()}
    micro, shards = self.layout.micro, self.layout.shards
    arranged = []
    for (part, name), seed in self._seed_of.items():
      view = getattr(self.data, part)[name]
      rows, epoch = rows_of[part]
      taken = self._seed_of.get((part, getattr(name, "first", None)))
      texts = read(view.tokens, view.draw(seed, epoch, rows, taken))
      size = len(texts) // (micro * shards)
      shares = [texts[i * size : (i + 1) * size] for i in range(micro * shards)]
      arranged.append([shares[k * shards : (k + 1) * shards] for k in range(micro)])
    return arranged

  def _plan(self, lengths, row_lengths: tuple[int, ...]):
    """[view][micro-batch][shard] -> plan, from the lengths of the texts."""
    packed = self.layout.packed
    if not packed:
      row_lengths = (max(int(s.max()) for v in lengths for k in v for s in k),)
    return [
      [[pack.plan_rows(shard, row_lengths, packed) for shard in m] for m in view]
      for view in lengths
    ]

  def _needed_rows(self, plans) -> np.ndarray:
    """Rows for each view and row length.

    In the padded layout, the length of the longest text precedes them.
    """
    by_view = [[plan for micro in view for plan in micro] for view in plans]
    rows = np.ravel([np.max([p.rows for p in view], axis=0) for view in by_view])
    if self.layout.packed:
      return rows
    return np.array([max(p.longest for view in by_view for p in view), *rows])

  def _shape(self, need: np.ndarray, choice: RowChoice) -> list[list[tuple[int, int]]]:
    """[view][row length] -> (length, rows) of a batch."""
    if self.layout.packed:
      shape = pack.cheapest_shape(choice.shapes, need, choice.cost)
      by_view = shape.reshape(len(self.views), -1).tolist()
      return [list(zip(choice.row_lengths, rows, strict=True)) for rows in by_view]
    limit = choice.row_lengths[-1]
    fits = [int(length) for length in choice.shapes if length >= need[0]]
    length = min(fits[0], limit) if fits else limit
    return [[(length, int(rows))] for rows in need[1:]]


def _text_lengths(tokens: Tokens, indices: np.ndarray) -> np.ndarray:
  return tokens.offset[indices + 1] - tokens.offset[indices]


def row_length_options(
  longest: int, max_length: int, packed: bool = True
) -> list[tuple[int, ...]]:
  """The row lengths to consider for texts of up to `longest` tokens.

  A single row length wastes least on padding: a compiled step has fixed row counts, so
  with two lengths, each count must suffice for the step that needs most rows of that
  length. Short rows save attention, whose cost grows with the square of the row length.
  Which effect is larger depends on the texts and the batch size; `RowChoice.price`
  compares the two. See docs/performance.md for measurements.
  """
  limit = max(8, min(max_length, math.ceil(longest / 8) * 8))
  shorter = [length for length in SHORT_LENGTHS if packed and length < limit]
  return [(limit,), *((length, limit) for length in shorter)]

"""Builds batch t, laid out for the devices, as a pure function of (seed, t).

Labelled and unlabelled batches are slices of the epoch's permutation (`order`), so
batches are always full and never repeat an unlabelled row. Resuming needs only the
step.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import grain
import jax
import numpy as np

from ssljax.batch import Batch, Labelled, SecondCandidate, Texts, Unlabelled
from ssljax.data.batches import order, pack
from ssljax.data.batches.tokenize import Tokens
from ssljax.errors import UserError

PLANNED_STEPS = 512  # number of steps sampled to choose the shapes
SHORT_LENGTHS = (128, 256)  # candidates for the length of short rows
MAX_SHAPES = 3  # more waste less padding, but compile longer (docs/performance.md)


class View(NamedTuple):
  """One view of n rows. Each epoch draws one of a row's candidates."""

  tokens: Tokens  # all candidates, row by row
  begin: np.ndarray  # i64 [n + 1], row i has candidates begin[i] to begin[i + 1] - 1

  def draw(
    self,
    seed: int | np.uint64,
    epoch: np.ndarray,
    rows: np.ndarray,
    taken: int | np.uint64 | None = None,
  ) -> np.ndarray:
    """Draws a candidate for each row, from (seed, epoch, row) alone.

    Args:
      taken: seed of another view of the same candidates. Its draw is not repeated for
        rows with at least two candidates.

    Returns:
      i64, indices into `tokens`.
    """
    count = (self.begin[rows + 1] - self.begin[rows]).astype(np.uint64)
    random = order.scramble(seed, epoch, rows)
    candidate = random % count
    if taken is not None:
      others = np.maximum(count, 2) - np.uint64(1)
      first = order.scramble(taken, epoch, rows) % count
      second = (first + np.uint64(1) + random % others) % count
      candidate = np.where(count > 1, second, 0)
    return self.begin[rows] + candidate.astype(np.int64)


class TrainSet(NamedTuple):
  """The tokenised train rows, for each view that the method reads."""

  labelled: Mapping[str, View]
  unlabelled: Mapping[str, View]
  label: np.ndarray  # i32 [labelled]
  hidden: np.ndarray  # i32 [N], labels of unlabelled rows for reports; -1 if unknown


class Layout(NamedTuple):
  """How the texts of a step are distributed."""

  shards: int  # data shards over all devices
  micro: int  # micro-batches of gradient accumulation, 1 for none
  options: Sequence[tuple[int, ...]]  # see `row_length_options`
  packed: bool
  costly: float = math.inf  # EncoderConfig.costly_length


class RowChoice(NamedTuple):
  """The row lengths and shapes of a run."""

  row_lengths: tuple[int, ...]
  cost: np.ndarray  # i64 [views x row lengths], cost of a row
  shapes: np.ndarray  # from `pack.choose_shapes`; padded: a few lengths
  price: float  # cost of a step, in tokens of a layer without attention


class Loader:
  """Builds batches by step.

  Attributes:
    choice: the option of the layout whose sampled steps cost least.
  """

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
    for name, size in (
      ("batch", batch),
      ("batch * unlabelled_ratio", unlabelled_batch),
    ):
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
    # Views with the same candidates draw them independently of each other.
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
      shards: the data shards to fill with texts (those of this process); default all.
        Labels and indices are always those of the whole batch.
    """
    texts = self._arrange(_texts, t)
    plans = self._plan(self._arrange(_text_lengths, t), self.choice.row_lengths)
    shape = self._shape(self._needed_rows(plans), self.choice)
    shards = range(self.layout.shards) if shards is None else shards
    views: dict[str, dict[str, Texts]] = {"labelled": {}, "unlabelled": {}}
    width = len(self.choice.row_lengths) if self.layout.packed else 1
    for v, (part, name) in enumerate(self.views):
      groups = shape[v * width : (v + 1) * width]
      micro_batches = [
        pack.fill_rows(
          [plans[v][k][s] for s in shards],
          [texts[v][k][s] for s in shards],
          groups,
          self.layout.packed,
        )
        for k in range(self.layout.micro)
      ]
      views[part][name] = (
        _stack(micro_batches) if self.layout.micro > 1 else micro_batches[0]
      )
    labelled, unlabelled = self.order(t)
    label = np.eye(self.classes, dtype=np.float32)[self.data.label[labelled]]
    return Batch(
      Labelled(views["labelled"], label, labelled.astype(np.int32)),
      Unlabelled(views["unlabelled"], unlabelled.astype(np.int32)),
    ), self.data.hidden[unlabelled]

  def iterate(self, start: int, stop: int, shards: Sequence[int]) -> Iterator:
    """Yields batches start to stop - 1, prefetched by grain's threads."""
    steps = grain.MapDataset.range(start, stop).map(
      lambda t: self.batch(int(t), shards)
    )
    return iter(
      steps.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=8))
    )

  def _row_cost(self, length: int) -> int:
    # Integers, so that sums and their order are the same on every processor.
    return round(length * (1 + length / self.layout.costly))

  def _evaluate(self, row_lengths: tuple[int, ...], lengths) -> RowChoice:
    """Chooses shapes for these row lengths and computes the mean cost of a step."""
    needs = np.array(
      [self._needed_rows(self._plan(step, row_lengths)) for step in lengths]
    )
    cost = np.tile([self._row_cost(length) for length in row_lengths], len(self.views))
    if self.layout.packed:
      shapes = pack.choose_shapes(needs, cost, MAX_SHAPES)
    else:
      shapes = _padded_lengths(needs, MAX_SHAPES)
    choice = RowChoice(row_lengths, cost, shapes, math.nan)
    groups = [group for need in needs for group in self._shape(need, choice)]
    price = sum(rows * self._row_cost(length) for length, rows in groups) / len(needs)
    return choice._replace(price=price)

  def _arrange(self, read: Callable[[Tokens, np.ndarray], Sequence], t: int):
    """[view][micro-batch][shard] -> `read` of the texts of batch t."""
    rows_of = {part: rows(t) for part, rows in self._rows_of.items()}
    micro, shards = self.layout.micro, self.layout.shards
    arranged = []
    for (part, name), seed in self._seed_of.items():
      view = getattr(self.data, part)[name]
      index, epoch = rows_of[part]
      second = isinstance(name, SecondCandidate)
      first = self._seed_of.get((part, name.first)) if second else None
      texts = read(view.tokens, view.draw(seed, epoch, index, first))
      size = len(texts) // (micro * shards)
      arranged.append(
        [
          [texts[(k * shards + s) * size :][:size] for s in range(shards)]
          for k in range(micro)
        ]
      )
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
    """Rows for each view and row length; padded: the longest text, then the rows."""
    rows = [
      np.max([plan.rows for micro in view for plan in micro], axis=0) for view in plans
    ]
    if self.layout.packed:
      return np.concatenate(rows)
    longest = max(p.longest for view in plans for micro in view for p in micro)
    return np.array([longest, *(row[0] for row in rows)])

  def _shape(self, need: np.ndarray, choice: RowChoice) -> tuple[tuple[int, int], ...]:
    """(length, rows) for each view and row length of a batch."""
    if self.layout.packed:
      rows = pack.cheapest_shape(choice.shapes, need, choice.cost)
      lengths = choice.row_lengths * len(self.views)
      return tuple(zip(lengths, map(int, rows), strict=True))
    limit = choice.row_lengths[-1]
    fits = [int(length) for length in choice.shapes if length >= need[0]]
    length = min(fits[0], limit) if fits else limit
    return tuple((length, int(rows)) for rows in need[1:])


def _texts(tokens: Tokens, indices: np.ndarray) -> list[tuple[np.ndarray, int]]:
  return [tokens.text(i) for i in indices]


def _text_lengths(tokens: Tokens, indices: np.ndarray) -> np.ndarray:
  return tokens.offset[indices + 1] - tokens.offset[indices]


def _padded_lengths(needs: np.ndarray, count: int) -> np.ndarray:
  """A few lengths, multiples of 8, that hold the longest texts of all steps."""
  longest = np.sort(needs[:, 0])
  ends = np.ceil(np.arange(1, count + 1) * len(longest) / count).astype(int) - 1
  return np.unique(-(-longest[ends] // 8) * 8)


def _stack(micro_batches: list[Texts]) -> Texts:
  """Stacks micro-batches along a new leading axis K."""
  return jax.tree.map(lambda *leaves: np.stack(leaves), *micro_batches)


def row_length_options(
  longest: int, max_length: int, packed: bool = True
) -> list[tuple[int, ...]]:
  """The row lengths to consider for texts of up to `longest` tokens.

  A compiled step has fixed row counts, so rows of a single length are filled best: with
  two lengths, each count must serve the step that needs most rows of that length. Short
  rows save attention, whose cost grows with the square of the row length although most
  of it is masked. Which effect is larger depends on the texts and the batch size;
  `RowChoice.price` compares them. See docs/performance.md for measurements.
  """
  limit = max(8, min(max_length, math.ceil(longest / 8) * 8))
  shorter = [length for length in SHORT_LENGTHS if packed and length < limit]
  return [(limit,), *((length, limit) for length in shorter)]

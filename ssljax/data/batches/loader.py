"""Builds batch t, laid out for the devices, as a pure function of (seed, t).

`order` chooses the rows; batches are always full, and no batch has an unlabelled row
twice. A resumed run needs to know only its step.
"""

import functools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import grain
import jax
import numpy as np

from ssljax.batch import Batch, Labelled, RowsOf, Texts, Unlabelled
from ssljax.data.batches import order, pack
from ssljax.data.batches.fixed_rows import FixedRows
from ssljax.data.batches.needed_rows import NeededRows
from ssljax.data.batches.tokenize import Tokens
from ssljax.errors import UserError

PLANNED_STEPS = 512  # number of steps sampled to choose the shapes
# Stratified batches are so similar that fewer steps suffice.
PLANNED_STRATIFIED = 128

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
    count = self.begin[rows + 1] - self.begin[rows]
    return self.begin[rows] + draw_candidates(count, seed, epoch, rows, taken)

  def lengths(self, drawn: np.ndarray) -> np.ndarray:
    """i64, tokens of each text that `draw` has drawn."""
    return self.tokens.offset[drawn + 1] - self.tokens.offset[drawn]

  def texts(self, drawn: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """The texts that `draw` has drawn, as from `Tokens.text`."""
    return [self.tokens.text(i) for i in drawn]

  @property
  def counts(self) -> np.ndarray:
    """i64 [n], candidates of each row."""
    return np.diff(self.begin)

  @property
  def row_lengths(self) -> np.ndarray:
    """f64 [n], tokens of each row: the mean over its candidates."""
    return np.add.reduceat(self.tokens.lengths, self.begin[:-1]) / self.counts

  @property
  def cut(self) -> np.ndarray:
    """f64 [n], share of each row's candidates that were truncated."""
    cut = self.tokens.truncated.astype(float)
    return np.add.reduceat(cut, self.begin[:-1]) / self.counts

  @property
  def longest(self) -> int:
    """Tokens of the longest candidate."""
    return int(self.tokens.lengths.max(initial=1))


def draw_candidates(
  count: np.ndarray,
  seed: Seed,
  epoch: np.ndarray,
  rows: np.ndarray,
  taken: Seed | None = None,
) -> np.ndarray:
  """i64, the number of a candidate for each row; see `View.draw`.

  Args:
    count: i64, candidates of each of `rows`.
  """
  count = count.astype(np.uint64)
  random = order.scramble(seed, epoch, rows)
  candidate = random % count
  if taken is not None:
    others = np.maximum(count, 2) - np.uint64(1)
    first = order.scramble(taken, epoch, rows) % count
    candidate = (first + np.uint64(1) + random % others) % count
  return candidate.astype(np.int64)


class TrainSet(NamedTuple):
  """The tokenised train rows, for each view that the method reads."""

  labelled: Mapping[str, View]
  unlabelled: Mapping[str, View]
  label: np.ndarray  # i32 [labelled]
  hidden: np.ndarray  # i32 [N], labels of unlabelled rows for reports; -1 if unknown


class Layout(NamedTuple):
  shards: int  # data shards over all devices
  micro: int  # micro-batches of gradient accumulation, 1 for none
  limit: int  # length of a row that holds every text
  packed: bool
  costly: float = math.inf  # row length at which attention costs as much as the rest


class Loader:
  """Builds the batch of each step; `rows` decides in which rows the texts are."""

  _PARTS = ("labelled", "unlabelled")

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
    stratified: bool = True,
    groups: Sequence[Sequence[tuple[str, str]]] = (),
  ):
    """Chooses the shapes for `steps` steps.

    Args:
      classes: width of the one-hot labels, including virtual classes.
      stratified: whether each batch has texts of all lengths; otherwise, it's random.
      groups: views that share rows, as from `find_groups`. By default, and in random
        order or the padded layout, none do.

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
    self._rows_of = {}
    for part, size, seed_ in zip(self._PARTS, sizes.values(), seeds, strict=True):
      lengths = _row_lengths(getattr(data, part))
      self._rows_of[part] = (
        order.stratified_rows(lengths, size, int(seed_))
        if stratified
        else order.shuffled_rows(len(lengths), size, int(seed_))
      )
    self.views = [("labelled", name) for name in data.labelled]
    self.views += [("unlabelled", name) for name in data.unlabelled]
    # Each view has its own seed, so that views of the same candidates are independent.
    names = np.array([zlib.crc32(name.encode()) for _, name in self.views])
    view_seeds = order.scramble(seed, np.zeros(len(names), int), names)
    self._seed_of = dict(zip(self.views, view_seeds, strict=True))
    fixed = stratified and layout.packed
    together = [tuple(group) for group in groups] if fixed else []
    alone = [(view,) for view in self.views if view not in sum(together, ())]
    self.groups = [*alone, *together]
    count = PLANNED_STRATIFIED if fixed else PLANNED_STEPS
    chosen = np.unique(np.linspace(0, max(steps - 1, 0), count).astype(int))
    sample = [self._arrange(_text_lengths, t) for t in chosen]
    self.rows = (
      FixedRows(sample, steps, layout.limit, self._row_cost)
      if fixed
      else NeededRows(sample, layout.limit, self._row_cost, layout.packed)
    )

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
    texts = self._arrange(lambda view, drawn: view.texts(drawn), t)
    lengths = [
      [[_lengths_of(shard) for shard in micro] for micro in group] for group in texts
    ]
    planned, _ = self.rows.plan(lengths)
    shards = range(self.layout.shards) if shards is None else shards
    views: dict[str, dict[str, Texts]] = {"labelled": {}, "unlabelled": {}}
    for group, (plans, shape), by_micro in zip(
      self.groups, planned, texts, strict=True
    ):
      micro_batches = [
        pack.fill_rows(
          [plans[k][s] for s in shards],
          [by_micro[k][s] for s in shards],
          shape,
          self.layout.packed,
        )
        for k in range(self.layout.micro)
      ]
      # Gradient accumulation adds a leading axis K.
      stack = lambda *leaves: np.stack(leaves) if len(leaves) > 1 else leaves[0]
      packed = jax.tree.map(stack, *micro_batches)
      ends = np.cumsum([self._texts_per_part(part) for part, _ in group])
      by_view = np.split(packed.where, ends[:-1], axis=-1)
      for (part, name), where in zip(group, by_view, strict=True):
        rows = packed.rows if (part, name) == group[0] else RowsOf(*group[0])
        views[part][name] = Texts(rows, where)
    labelled, unlabelled = self.order(t)
    label = np.eye(self.classes, dtype=np.float32)[self.data.label[labelled]]
    return Batch(
      Labelled(views["labelled"], label, labelled.astype(np.int32)),
      Unlabelled(views["unlabelled"], unlabelled.astype(np.int32)),
    ), self.data.hidden[unlabelled]

  @property
  def planned_shapes(self) -> int:
    """The number of shapes that the run is expected to need."""
    if isinstance(self.rows, NeededRows):
      return len(self.rows.choice.shapes)
    return 1 + (self.rows.usual != self.rows.overflow)

  @property
  def usual_tokens(self) -> int | None:
    """Tokens of a shard's usual rows; None in random order and the padded layout."""
    if isinstance(self.rows, NeededRows):
      return None
    return self.layout.micro * sum(map(sum, self.rows.usual))

  def iterate(self, start: int, stop: int, shards: Sequence[int]) -> Iterator:
    """Yields batches start to stop - 1, prefetched by grain's threads."""
    steps = grain.MapDataset.range(start, stop)
    batches = steps.map(lambda t: self.batch(int(t), shards))
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    return iter(batches.to_iter_dataset(options))

  def _row_cost(self, length: int) -> int:
    # An integer, so that all processors compute the same sums and sort them alike.
    return round(length * (1 + length / self.layout.costly))

  def _texts_per_part(self, part: str) -> int:
    """Texts of a view for each shard and micro-batch."""
    return len(self._rows_of[part](0)[0]) // (self.layout.micro * self.layout.shards)

  def _arrange(self, read: Callable[[View, np.ndarray], Sequence], t: int):
    """[group][micro-batch][shard] -> `read` of the texts of batch t."""
    rows_of = {part: rows(t) for part, rows in self._rows_of.items()}
    micro, shards = self.layout.micro, self.layout.shards
    shares_of = {}  # view -> [micro-batch x shard]
    for (part, name), seed in self._seed_of.items():
      view = getattr(self.data, part)[name]
      rows, epoch = rows_of[part]
      taken = self._seed_of.get((part, getattr(name, "first", None)))
      texts = read(view, view.draw(seed, epoch, rows, taken))
      size = self._texts_per_part(part)
      shares = [texts[i * size : (i + 1) * size] for i in range(micro * shards)]
      shares_of[part, name] = shares
    arranged = []
    for group in self.groups:
      members = zip(*(shares_of[view] for view in group), strict=True)
      shares = [_join(parts) for parts in members]
      arranged.append([shares[k * shards : (k + 1) * shards] for k in range(micro)])
    return arranged


def _join(parts: Sequence):
  """Concatenates arrays or lists."""
  if isinstance(parts[0], np.ndarray):
    return np.concatenate(parts)
  return [text for part in parts for text in part]


def _row_lengths(views: Mapping[str, View]) -> np.ndarray:
  """[n], tokens of each row: the sum over its views, the mean over candidates."""
  lengths = [view.row_lengths for view in views.values()]
  return functools.reduce(np.add, lengths) if lengths else np.zeros(0)


def _lengths_of(texts: Sequence) -> np.ndarray:
  return np.array([len(ids) for ids, _ in texts], np.int64)


def _text_lengths(view: View, drawn: np.ndarray) -> np.ndarray:
  return view.lengths(drawn)


def row_limit(longest: int, max_length: int) -> int:
  """The length of a row that holds texts of up to `longest` tokens."""
  return max(8, min(max_length, math.ceil(longest / 8) * 8))

"""What batch t holds, as a pure function of (seed, t), laid out for the devices.

A labelled and an unlabelled batch is a slice of this epoch's permutation (`order`), so
that a batch is always full and never repeats an unlabelled row. Resuming needs the step
and nothing else.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import grain
import numpy as np

from ssljax.batch import Batch, Labelled, SecondCandidate, Texts, Unlabelled
from ssljax.data.batches import order, pack
from ssljax.data.batches.pack import Shape
from ssljax.data.batches.tokenize import Tokens
from ssljax.errors import UserError

PLANNED = 512  # steps looked at to choose the shapes
SHORTER = (128, 256)  # tokens that the shorter rows may have
SHAPES = 3  # see docs/performance.md: more fill the rows better and compile longer


class View(NamedTuple):
  """One view of n rows; a row has one or more candidates, one of which is drawn."""

  tokens: Tokens  # all candidates, row by row
  begin: np.ndarray  # i64 [n + 1], candidates of row i: begin[i] to begin[i + 1]

  def draw(
    self,
    seed: int | np.uint64,
    epoch: np.ndarray,
    rows: np.ndarray,
    taken: int | np.uint64 | None = None,
  ) -> np.ndarray:
    """Which of `tokens` row i shows in epoch e: by (seed, epoch, row) alone.

    Args:
      taken: seed of another view of the same candidates; what it shows is not drawn
        again, where a row has two.
    """
    count = (self.begin[rows + 1] - self.begin[rows]).astype(np.uint64)
    drawn = order.scramble(seed, epoch, rows)
    place = drawn % count
    if taken is not None:
      others = np.maximum(count, 2) - np.uint64(1)
      first = order.scramble(taken, epoch, rows) % count
      place = np.where(count > 1, (first + np.uint64(1) + drawn % others) % count, 0)
    return self.begin[rows] + place.astype(np.int64)


class TrainSet(NamedTuple):
  """Tokenised train rows, as the methods' views."""

  labelled: Mapping[str, View]
  unlabelled: Mapping[str, View]
  label: np.ndarray  # i32 [labelled]
  hidden: np.ndarray  # i32 [N], label of an unlabelled row, -1 unknown: to report only


class Layout(NamedTuple):
  """How the texts of a step are spread."""

  shards: int  # data shards over all devices
  micro: int  # micro-batches of gradient accumulation, 1 for none
  options: Sequence[tuple[int, ...]]  # row lengths to choose from, see `row_lengths`
  packed: bool
  costly: float = math.inf  # EncoderConfig.costly_length


class Choice(NamedTuple):
  """The rows of a run."""

  row_lengths: tuple[int, ...]
  cost: np.ndarray  # i64 [views x row lengths], price of a row
  shapes: np.ndarray  # of `pack.shapes`; padded: a few lengths
  price: float  # of a step, in tokens of a layer without attention


class Loader:
  """Batches by step.

  Attributes:
    choice: of the layout's options the one whose planned steps cost least.
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
    """Plans the shapes of `steps` steps.

    Args:
      classes: width of the one-hot labels, virtual classes included.

    Raises:
      UserError: a batch that does not divide over the shards and micro-batches, or
        more unlabelled texts in a batch than there are.
    """
    self.data, self.layout, self.classes = data, layout, classes
    parts = layout.shards * layout.micro
    for name, size in (
      ("batch", batch),
      ("batch * unlabelled_ratio", unlabelled_batch),
    ):
      if size % parts:
        raise UserError(
          f"{name} = {size} does not divide into {layout.shards} device shards x "
          f"{layout.micro} micro-batches; choose a multiple of {parts}"
        )
    rows = len(data.hidden)
    if unlabelled_batch > rows:
      raise UserError(
        f"a batch takes {unlabelled_batch} unlabelled texts, but there are {rows}; "
        "lower batch or unlabelled_ratio, or give more texts"
      )
    # grain adds the epoch to its seed, so seeds beside each other would share orders.
    seeds = order.scramble(seed, np.zeros(2, int), np.arange(2)) >> np.uint64(33)
    self.labelled_order = order.batches(len(data.label), batch, int(seeds[0]))
    self.unlabelled_order = order.batches(rows, unlabelled_batch, int(seeds[1]))
    self.views = [("labelled", name) for name in data.labelled]
    self.views += [("unlabelled", name) for name in data.unlabelled]
    # Views that have the same candidates draw them independently of each other.
    names = np.array([zlib.crc32(name.encode()) for _, name in self.views])
    self.draws = order.scramble(seed, np.zeros(len(names), int), names)
    looked = np.unique(np.linspace(0, max(steps - 1, 0), PLANNED).astype(int))
    lengths = [self._each(_lengths, t) for t in looked]
    choices = (self._choice(option, lengths) for option in layout.options)
    self.choice = min(choices, key=lambda choice: choice.price)

  def order(self, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of batch t: labelled i64 [B], unlabelled i64 [U]."""
    return self.labelled_order(t)[0], self.unlabelled_order(t)[0]

  def batch(
    self, t: int, shards: Sequence[int] | None = None
  ) -> tuple[Batch, np.ndarray]:
    """Batch t with NumPy leaves, and the hidden labels i32 [U] of its unlabelled rows.

    Args:
      shards: which data shards' texts to lay out (those of this process); labels and
        indices are always the whole batch's. Default all.
    """
    texts = self._each(_texts, t)
    plans = self._plans(self._each(_lengths, t), self.choice.row_lengths)
    shape = self._shape(self._need(plans), self.choice)
    shards = range(self.layout.shards) if shards is None else shards
    views: dict[str, dict[str, Texts]] = {"labelled": {}, "unlabelled": {}}
    width = len(self.choice.row_lengths) if self.layout.packed else 1
    for v, (part, name) in enumerate(self.views):
      groups = shape[v * width : (v + 1) * width]
      laid = [
        pack.lay(
          [plans[v][k][s] for s in shards],
          [texts[v][k][s] for s in shards],
          Shape(groups),
          self.layout.packed,
        )
        for k in range(self.layout.micro)
      ]
      views[part][name] = _stack(laid) if self.layout.micro > 1 else laid[0]
    labelled, unlabelled = self.order(t)
    label = np.eye(self.classes, dtype=np.float32)[self.data.label[labelled]]
    return Batch(
      Labelled(views["labelled"], label, labelled.astype(np.int32)),
      Unlabelled(views["unlabelled"], unlabelled.astype(np.int32)),
    ), self.data.hidden[unlabelled]

  def iterate(self, start: int, stop: int, shards: Sequence[int]) -> Iterator:
    """Batches start to stop - 1, prepared ahead by a thread of grain's."""
    steps = grain.MapDataset.range(start, stop).map(
      lambda t: self.batch(int(t), shards)
    )
    return iter(
      steps.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=8))
    )

  def _row_price(self, length: int) -> int:
    # Whole numbers, so that sums and their order are the same on every processor.
    return round(length * (1 + length / self.layout.costly))

  def _choice(self, row_lengths: tuple[int, ...], lengths) -> Choice:
    needs = np.array([self._need(self._plans(step, row_lengths)) for step in lengths])
    prices = [self._row_price(length) for length in row_lengths]
    cost = np.tile(prices, len(self.views))
    if self.layout.packed:
      shapes = pack.shapes(needs, cost, SHAPES)
    else:
      shapes = _padded_lengths(needs, SHAPES)
    choice = Choice(row_lengths, cost, shapes, math.nan)
    taken = [pair for need in needs for pair in self._shape(need, choice)]
    price = sum(n * self._row_price(length) for length, n in taken) / len(needs)
    return choice._replace(price=price)

  def _each(self, what: Callable[[Tokens, np.ndarray], Sequence], t: int):
    """[view][micro-batch][shard] -> `what` of the texts of batch t."""
    found = []
    rows = dict(
      zip(
        ("labelled", "unlabelled"),
        (self.labelled_order(t), self.unlabelled_order(t)),
        strict=True,
      )
    )
    seeds = dict(zip(self.views, self.draws, strict=True))
    for (part, name), draw in seeds.items():
      view = getattr(self.data, part)[name]
      index, epoch = rows[part]
      second = isinstance(name, SecondCandidate)
      first = seeds.get((part, name.first)) if second else None
      texts = what(view.tokens, view.draw(draw, epoch, index, first))
      micro, shards = self.layout.micro, self.layout.shards
      size = len(texts) // (micro * shards)
      found.append(
        [
          [texts[(k * shards + s) * size :][:size] for s in range(shards)]
          for k in range(micro)
        ]
      )
    return found

  def _plans(self, lengths, row_lengths: tuple[int, ...]):
    """[view][micro-batch][shard] -> plan, of the lengths of the texts."""
    packed = self.layout.packed
    if not packed:
      row_lengths = (max(int(s.max()) for v in lengths for k in v for s in k),)
    return [
      [[pack.plan(shard, row_lengths, packed) for shard in micro] for micro in view]
      for view in lengths
    ]

  def _need(self, plans) -> np.ndarray:
    """Rows of each view and row length; padded: the longest text, then the rows."""
    rows = [
      np.max([plan.rows for micro in view for plan in micro], axis=0) for view in plans
    ]
    if self.layout.packed:
      return np.concatenate(rows)
    longest = max(p.longest for view in plans for micro in view for p in micro)
    return np.array([longest, *(row[0] for row in rows)])

  def _shape(self, need: np.ndarray, choice: Choice) -> tuple[tuple[int, int], ...]:
    """(length, rows) of each view and row length that a batch is laid into."""
    if self.layout.packed:
      rows = pack.smallest(choice.shapes, need, choice.cost)
      lengths = choice.row_lengths * len(self.views)
      return tuple(zip(lengths, map(int, rows), strict=True))
    limit = choice.row_lengths[-1]
    fits = [int(length) for length in choice.shapes if length >= need[0]]
    length = min(fits[0], limit) if fits else limit
    return tuple((length, int(rows)) for rows in need[1:])


def _texts(tokens: Tokens, some: np.ndarray) -> list[tuple[np.ndarray, int]]:
  return [tokens.text(i) for i in some]


def _lengths(tokens: Tokens, some: np.ndarray) -> np.ndarray:
  return tokens.offset[some + 1] - tokens.offset[some]


def _padded_lengths(needs: np.ndarray, count: int) -> np.ndarray:
  """A few lengths, multiples of 8, that serve all steps' longest texts."""
  longest = np.sort(needs[:, 0])
  ends = np.ceil(np.arange(1, count + 1) * len(longest) / count).astype(int) - 1
  return np.unique(-(-longest[ends] // 8) * 8)


def _stack(laid: list[Texts]) -> Texts:
  """Micro-batches under a leading axis K."""
  first = laid[0]
  rows = tuple(
    type(r)(
      *(
        None if r[f] is None else np.stack([t.rows[g][f] for t in laid])
        for f in range(len(r))
      )
    )
    for g, r in enumerate(first.rows)
  )
  return Texts(rows, np.stack([t.where for t in laid]))


def row_lengths(
  longest: int, max_length: int, packed: bool = True
) -> list[tuple[int, ...]]:
  """The row lengths that come into question for texts of up to `longest` tokens.

  Rows of one length are filled best, since a compiled step has fixed row counts: with
  two lengths, each count must serve the step that needs most of its rows. Short rows
  beside the long ones save attention, which costs the square of a row's length
  although most of it is masked. Which of the two is more depends on the texts and the
  batch; `Choice.price` tells. docs/performance.md has the measurement.
  """
  limit = max(8, min(max_length, math.ceil(longest / 8) * 8))
  shorter = [short for short in SHORTER if packed and short < limit]
  return [(limit,), *((short, limit) for short in shorter)]

"""Chooses the rows of a step, and fits the texts of each batch into them.

Stratified batches have nearly the same number of tokens (`order`). So the rows of a
step are fixed before the run: rows of a few lengths, just enough for nearly all steps.
A short text may be in a long row. The few steps that don't fit get more rows, the
overflow shape. So most runs compile two programs at most.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ssljax.data.batches.pack import TOKENS_PER_SLOT, Plan, slots_per_row

FINE, COARSE = 16, 32  # between the row lengths to try, up to 128 and above
COMPILATION = 10  # what another program costs, in steps
ROW_LENGTHS = 3  # at most, in usual rows: with more, the matrices of a layer get small
ROW_LENGTH = 0.2  # what another row length adds to a program, as a share of it
WASTE = 1.25  # rows that cost this much more than their texts aren't tried
MISFITS = 0.1  # share of the steps that may overflow the usual rows of a group
MOVED = 3  # rows that one change removes or adds
# The choice uses up to 64 steps, and fewer if they have many texts.
SEARCHED, SEARCHED_TEXTS = 64, 16_000

Lengths = Sequence[Sequence[Sequence[np.ndarray]]]  # [group][micro-batch][shard] -> [n]
RowLengths = tuple[int, ...]  # of the rows of a shard, ascending


class Planned(NamedTuple):
  """Where the texts of a group of views are."""

  plans: Sequence[Sequence[Plan]]  # [micro-batch][shard]
  shape: Sequence[tuple[int, int]]  # (length, rows per shard) for each row length


class Prices(NamedTuple):
  """What rows cost, in the unit of `row`."""

  row: Callable[[int], float]  # maps the length of a row to its price
  misfit: float  # of a row of the longest length in each group
  compilation: float  # of another program, as a share of all steps

  def of(self, rows: RowLengths) -> float:
    return sum(map(self.row, rows))


class _Sample:
  """The texts of some steps."""

  def __init__(self, lengths: np.ndarray):
    """`lengths`, i64 [T, P, n], are those of T steps with P parts each."""
    self.steps = len(lengths)
    # i64 [T x P, n], the longest texts first.
    self.parts = -np.sort(-lengths.reshape(-1, lengths.shape[-1]), axis=1)
    self.tokens = self.parts.sum(1)
    self.median = float(np.median(self.tokens))
    # Longer texts use up the tokens of a row before its slots.
    self.counts_slots = self.parts.min(initial=TOKENS_PER_SLOT) < TOKENS_PER_SLOT

  def overflow(self, rows: RowLengths) -> float:
    """The share of the steps that don't fit into the rows."""
    fits = self.tokens <= sum(rows)
    if fits.reshape(self.steps, -1).all(1).mean() >= 1 - MISFITS:
      fits = self.fits(rows)
    return 1.0 - float(fits.reshape(self.steps, -1).all(1).mean())

  def fits(self, rows: RowLengths) -> np.ndarray:
    """`Fitted.fits` of all parts; faster than `fit`, since it finds no places."""
    parts = self.parts
    free = np.tile(np.array(rows), (len(parts), 1))
    slots = np.array([slots_per_row(row, packed=True) for row in rows])
    left = np.tile(slots, (len(parts), 1))
    fits, every, never = np.ones(len(parts), bool), np.arange(len(parts)), max(rows) + 1
    for k in range(parts.shape[1]):
      tokens = parts[:, k, None]
      room = np.where(free >= tokens, free, never)
      if self.counts_slots:
        room[left == 0] = never
      best = room.argmin(1)
      fits &= room[every, best] < never
      free[every, best] -= tokens[:, 0]
      left[every, best] -= 1
    return fits


class FixedRows:
  """The rows of each group of views that share rows."""

  def __init__(
    self,
    sample: Sequence[Lengths],
    steps: int,
    limit: int,
    price: Callable[[int], float],
  ):
    """Chooses the rows from a sample of steps.

    Args:
      sample: the lengths of the texts in some of the steps.
      steps: of the run.
      limit: the length of a row that holds every text.
      price: maps the length of a row to what it costs.
    """
    self.limit = limit
    self.usual: list[RowLengths] = []  # by group
    self.overflow: list[RowLengths] = []
    for group in range(len(sample[0])):
      lengths = np.stack([_stack(step[group]) for step in sample])
      # If one group overflows, all of them use their overflow shape.
      scale = len(sample[0])
      prices = Prices(price, scale * price(limit), COMPILATION / steps)
      self.usual.append(choose_rows(lengths, limit, prices))
      self.overflow.append(choose_overflow(self.usual[-1], lengths, limit, prices))

  @property
  def row_lengths(self) -> tuple[int, ...]:
    """All row lengths, ascending; the last one holds every text."""
    return tuple(sorted({self.limit, *itertools.chain(*self.usual, *self.overflow)}))

  def plan(self, lengths: Lengths) -> tuple[list[Planned], bool]:
    """Fits the texts of a step into rows.

    A step that needs more than the overflow shape gets even more rows, and is compiled
    when it occurs.

    Returns:
      What is planned for each group, and whether the step overflows the usual rows.
    """
    stacked = [_stack(group) for group in lengths]
    shape, overflows = self.usual, False
    while not all(
      fit(texts, rows).fits.all() for texts, rows in zip(stacked, shape, strict=True)
    ):
      more = [
        enough_rows(rows, texts[None], self.limit)
        for texts, rows in zip(stacked, self.overflow, strict=True)
      ]
      shape, overflows = more, True
    pairs = zip(lengths, shape, strict=True)
    return [_planned(group, rows) for group, rows in pairs], overflows


def choose_rows(lengths: np.ndarray, limit: int, prices: Prices) -> RowLengths:
  """The rows that cost least: the best ones of two lengths, improved step by step.

  Args:
    lengths: i64 [T, P, n], tokens of the texts of T steps, each of which has P parts.
    limit: the length of a row that holds every text.
  """
  count = min(SEARCHED, len(lengths), max(8, SEARCHED_TEXTS // lengths[0].size))
  sample = _Sample(lengths[np.linspace(0, len(lengths) - 1, count).astype(int)])
  best, chosen = np.inf, ()
  # Candidates in the order of their least cost, that of a step with the median number
  # of tokens.
  for least, long, short, count in sorted(_candidates(sample, limit, prices.row)):
    if least >= best:
      break
    first = max(0, -(-int(sample.median - count * long) // short))
    for more in itertools.count(first):
      rows = (short,) * more + (long,) * count
      if prices.of(rows) >= min(best, WASTE * least):
        break
      total = _mean_cost(sample, rows, prices)
      if total < best:
        best, chosen = total, rows
  if not chosen:  # texts of a few tokens need more slots than tokens
    chosen = enough_rows((limit,), sample.parts[:, None], limit)
    best = _mean_cost(sample, chosen, prices)
  while True:
    costs = {rows: prices.of(rows) for rows in _changes(chosen, limit)}
    for rows in sorted(costs, key=costs.get):
      if costs[rows] >= best:
        return chosen
      total = _mean_cost(sample, rows, prices)
      if total < best:
        best, chosen = total, rows
        break
    else:
      return chosen


def _mean_cost(sample: _Sample, rows: RowLengths, prices: Prices) -> float:
  """What a step costs on average; infinite if too many of the steps don't fit."""
  share = sample.overflow(rows)
  if share > MISFITS:
    return np.inf
  cost = prices.of(rows)
  programs = (share > 0) + ROW_LENGTH * (len(set(rows)) - 1)
  # A short row is mostly enough for what overflows.
  return cost * (1 + programs * prices.compilation) + share * prices.misfit / 4


def _changes(rows: RowLengths, limit: int) -> Iterator[RowLengths]:
  """Replaces some rows of one length by rows of another one."""
  for old in sorted(set(rows)):
    for dropped in range(1, min(MOVED, rows.count(old)) + 1):
      rest = list(rows)
      for _ in range(dropped):
        rest.remove(old)
      for new in _tried(limit):
        for added in range(MOVED + 1):
          changed = tuple(sorted(rest + [new] * added))
          if 0 < len(set(changed)) <= ROW_LENGTHS:
            yield changed


def choose_overflow(
  rows: RowLengths, lengths: np.ndarray, limit: int, prices: Prices
) -> RowLengths:
  """Adds the row that costs least to the usual ones, for the steps that don't fit.

  The arguments are those of `choose_rows`, and the usual rows.
  """
  sample = _Sample(lengths)
  if not (usual := sample.overflow(rows)):
    return rows
  costs = {}
  for more in _tried(limit):
    rest = sample.overflow(_ascending(rows, more))
    # A third program, and another row length in the second one.
    programs = (rest > 0) + ROW_LENGTH * (more not in rows)
    costs[more] = usual * prices.row(more) + rest * prices.misfit
    costs[more] += programs * prices.compilation * prices.of(rows)
  return _ascending(rows, min(costs, key=costs.get))


def _tried(limit: int) -> list[int]:
  """The row lengths to try, ascending."""
  return [*range(FINE, min(limit, 128), FINE), *range(128, limit, COARSE), limit]


def _ascending(rows: RowLengths, more: int) -> RowLengths:
  return tuple(sorted((*rows, more)))


def _candidates(
  sample: _Sample, limit: int, price: Callable[[int], float]
) -> Iterator[tuple[float, int, int, int]]:
  """Yields (least cost, long row length, short row length, number of long rows)."""
  parts = sample.parts
  needed = np.quantile(parts[:, 0], 1 - MISFITS)
  for long in (length for length in _tried(limit) if length >= needed):
    for short in (length for length in _tried(limit) if length <= long):
      above = np.where(parts > short, parts, 0).sum(1)  # tokens that need long rows
      halves = (parts > max(short, long // 2)).sum(1)  # texts that need one each
      fewest = max(1, int(np.median(np.maximum(-(-above // long), halves))))
      for count in range(fewest, fewest + 3) if short < long else (1,):
        rest = max(0.0, sample.median - count * long)
        yield count * price(long) + rest / short * price(short), long, short, count


def enough_rows(rows: RowLengths, lengths: np.ndarray, limit: int) -> RowLengths:
  """Adds rows of length `limit` until all steps fit; `lengths` as in `choose_rows`."""
  parts = lengths.reshape(-1, lengths.shape[-1])
  while not fit(parts, rows).fits.all():
    rows = _ascending(rows, limit)
  return rows


class Fitted(NamedTuple):
  """Where the n texts of each of P parts are."""

  row: np.ndarray  # i64 [P, n]
  slot: np.ndarray  # i64 [P, n]
  start: np.ndarray  # i64 [P, n], first token within the row
  fits: np.ndarray  # bool [P], False if a text has no row


def fit(lengths: np.ndarray, rows: RowLengths, ordered: bool = False) -> Fitted:
  """Puts texts into given rows: best fit, longest text first; all parts at once.

  Args:
    lengths: i64 [P, n], tokens of the texts of P parts.
    ordered: whether the texts are already ordered, the longest first.
  """
  parts, n = np.arange(len(lengths)), lengths.shape[1]
  order = np.argsort(-lengths, axis=1, kind="stable")
  length = np.array(rows)
  slots = np.array([slots_per_row(row, packed=True) for row in rows])
  free = np.tile(length, (len(parts), 1))
  used = np.zeros_like(free)  # slots
  place = np.zeros((3, *lengths.shape), np.int64)
  fits = np.ones(len(parts), bool)
  never = length.max() + 1
  for k in range(n):
    text = np.full(len(parts), k) if ordered else order[:, k]
    tokens = lengths[parts, text]
    room = np.where((free >= tokens[:, None]) & (used < slots), free, never)
    best = room.argmin(1)
    fits &= room[parts, best] < never
    place[:, parts, text] = best, used[parts, best], length[best] - free[parts, best]
    free[parts, best] -= tokens
    used[parts, best] += 1
  return Fitted(*place, fits)


def _stack(group: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
  """[micro-batch][shard] -> i64 [n] to i64 [micro-batches x shards, n]."""
  return np.stack([shard for micro in group for shard in micro])


def _planned(group: Sequence[Sequence[np.ndarray]], rows: RowLengths) -> Planned:
  lengths, counts = np.unique(rows, return_counts=True)
  first = np.cumsum(counts) - counts  # of each length
  fitted = fit(_stack(group), rows)
  index = np.repeat(np.arange(len(lengths)), counts)[fitted.row]
  longest = [int(shard.max(initial=0)) for micro in group for shard in micro]
  plans = [
    Plan(index[p], fitted.row[p] - first[index[p]], slot, start, tuple(counts), most)
    for p, (slot, start, most) in enumerate(
      zip(fitted.slot, fitted.start, longest, strict=True)
    )
  ]
  shards = len(group[0])
  micro = [plans[i : i + shards] for i in range(0, len(plans), shards)]
  return Planned(micro, list(zip(lengths.tolist(), counts.tolist(), strict=True)))

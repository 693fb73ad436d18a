"""Chooses the rows of batch t from (seed, t) alone.

By default, batches are stratified by length: the rows are ordered by length and cut
into as many strata as a batch has rows, and each batch has one row of every stratum. So
all batches have nearly the same number of tokens, and one compiled shape fills its rows
well for all of them. Each batch is also a better sample of the lengths than a random
one.
"""

import functools
import itertools
from collections.abc import Callable

import grain
import numpy as np

CACHED_BATCHES = 1024
LEAST = 4  # rows per stratum
GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, are spread evenly


# Maps t to (rows i64 [size], their epochs i64 [size]).
Rows = Callable[[int], tuple[np.ndarray, np.ndarray]]


def stratified_rows(lengths: np.ndarray, size: int, seed: int) -> Rows:
  """Returns a function that draws one row of every stratum.

  The strata have n // size or n // size + 1 rows. Each has its own endless sequence of
  permutations, so the t-th batch has a row of stratum j from its pass t // n_j over the
  stratum, which is the row's epoch. If there are fewer than 4 `size` rows, the order is
  random: rows of strata with 1 or 2 rows would be drawn too unequally.

  A batch lists the strata in the order of `deal`, so that its equal parts, for devices
  and micro-batches, have nearly the same number of tokens as well.

  Args:
    lengths: [n], tokens of each row, whole or not.
    size: rows of a batch.
  """
  if len(lengths) < LEAST * size or size == 0:
    return shuffled_rows(len(lengths), size, seed)
  whole = lengths.dtype.kind in "iu" or not (lengths % 1).any()
  if whole and lengths.max() < 1 << 16:
    lengths = lengths.astype(np.uint16)  # which NumPy sorts many times as fast
  ordered = np.argsort(lengths, kind="stable").astype(np.uint32)  # half the memory
  ends = np.arange(size + 1) * len(ordered) // size
  strata = [ordered[a:b] for a, b in itertools.pairwise(ends)]
  count = np.array([len(stratum) for stratum in strata])

  @functools.lru_cache(maxsize=2 * size)
  def permuted(j: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, j, epoch)).permutation(strata[j])

  @functools.lru_cache(maxsize=CACHED_BATCHES)
  def draw(t):
    epoch, position = np.divmod(t, count)
    rows = [
      permuted(j, e)[k]
      for j, (e, k) in enumerate(zip(epoch.tolist(), position.tolist(), strict=True))
    ]
    dealt = deal(size, int(scramble(seed, np.int64(t), np.int64(0))))
    drawn, epoch = np.array(rows, np.int64)[dealt], epoch[dealt]
    for array in (drawn, epoch):
      array.flags.writeable = False
    return drawn, epoch

  return draw


def deal(size: int, random: int) -> np.ndarray:
  """Orders the strata such that equal parts of the batch have similar lengths.

  Let P be the largest power of two that divides `size`. The strata are dealt in rounds
  of P, one to each of P hands. A hand that gets a low stratum in one round gets a high
  one in the next. Neighbouring hands complement each other within a round, and so do
  pairs of hands, and so on. Therefore 1, 2, 4, … P parts are balanced, without the
  order depending on their number: the same batch is right for any number of devices.
  Other numbers of parts are balanced less well.

  Args:
    random: which hands get which strata, modulo P.

  Returns:
    i64 [size], a permutation of the strata 0, 1, ….
  """
  hands = size & -size
  folded = np.zeros(1, np.int64)
  while (n := 2 * len(folded)) <= hands:
    folded = np.stack([folded, n - 1 - folded], 1).ravel()
  rounds = np.arange(size // hands)
  flips = random % hands ^ np.where(rounds % 2, hands - 1, 0)
  dealt = rounds * hands + (folded[:, None] ^ flips)
  # Short and long strata alternate in a hand, for numbers of parts that cut hands.
  return dealt[:, np.argsort(rounds * GOLDEN % 1)].ravel()


@functools.cache
def shuffled_rows(rows: int, size: int, seed: int) -> Rows:
  """Returns a function that draws rows in a random order, another one in every epoch.

  Batches are cached because grain shuffles small sets slowly: in a set of a few dozen
  rows, finding one row can take milliseconds (docs/performance.md).
  """
  if size == 0:
    empty = np.zeros(0, np.int64)
    return lambda t: (empty, empty)
  stream = grain.MapDataset.range(rows).shuffle(seed=seed).repeat()
  # Rows at the end of an epoch that don't fill a batch are left out. A tiny labelled
  # set has fewer rows than a batch, so its rows repeat within a batch.
  used = rows // size * size or rows

  @functools.lru_cache(maxsize=CACHED_BATCHES)
  def draw(t):
    epoch, position = np.divmod(np.arange(t * size, (t + 1) * size), used)
    drawn = np.array([stream[int(i)] for i in epoch * rows + position])
    for array in (drawn, epoch):
      array.flags.writeable = False
    return drawn, epoch

  return draw


def scramble(seed: int | np.uint64, epoch: np.ndarray, row: np.ndarray) -> np.ndarray:
  """A pseudo-random u64 for each (seed, epoch, row): splitmix64 steps, vectorised."""
  with np.errstate(over="ignore"):
    mixed = np.zeros(np.shape(row), np.uint64)
    for value in (seed, epoch, row):
      mixed = (mixed + np.uint64(0x9E3779B97F4A7C15)) ^ np.asarray(value, np.uint64)
      mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
      mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
      mixed ^= mixed >> np.uint64(31)
  return mixed

"""Chooses the rows of batch t from (seed, t) alone."""

import functools
from collections.abc import Callable

import grain
import numpy as np

CACHED_BATCHES = 1024


@functools.cache
def batch_rows(
  rows: int, size: int, seed: int
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
  """Returns a function that maps t to (rows i64 [size], their epochs i64 [size]).

  Every epoch has its own random order.

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

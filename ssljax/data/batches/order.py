"""Which rows batch t takes: grain's shuffles, by (seed, t) alone."""

import functools

import grain
import numpy as np

KEPT = 1024  # batches whose rows are remembered


@functools.cache
def batches(rows: int, size: int, seed: int):
  """t -> (rows i64 [size], their epochs i64 [size]), shuffled anew each epoch.

  Kept, since a small set is costly to shuffle: grain looks for a row in the dark, up to
  milliseconds for each of a few dozen (docs/performance.md).
  """
  if size == 0:
    empty = np.zeros(0, np.int64)
    return lambda t: (empty, empty)
  shuffled = grain.MapDataset.range(rows).shuffle(seed=seed)
  if rows >= size:
    forever = shuffled.batch(size, drop_remainder=True).repeat()
    a_pass = rows // size

    def drawn(t):
      return forever[t], np.full(size, t // a_pass)

  else:
    # Fewer rows than a batch takes (a tiny labelled set): they do repeat.
    forever = shuffled.repeat()

    def drawn(t):
      places = np.arange(t * size, (t + 1) * size)
      return np.array([forever[int(i)] for i in places]), places // rows

  @functools.lru_cache(maxsize=KEPT)
  def kept(t):
    found = drawn(t)
    for array in found:
      array.flags.writeable = False
    return found

  return kept


def scramble(seed: int | np.uint64, epoch: np.ndarray, row: np.ndarray) -> np.ndarray:
  """A well-mixed u64 for each (seed, epoch, row): splitmix64 steps, vectorised."""
  with np.errstate(over="ignore"):
    mixed = np.zeros(np.shape(row), np.uint64)
    for part in (seed, epoch, row):
      mixed = (mixed + np.uint64(0x9E3779B97F4A7C15)) ^ np.asarray(part, np.uint64)
      mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
      mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
      mixed ^= mixed >> np.uint64(31)
  return mixed

"""Defines what local_runner and ray_runner share: their interface and their workers.

A runner is a function `write_views(job)`. It reads the Parquet files of a dataset
folder, adds views to their rows, and writes the rows to new files. It returns the
counts of the report, and raises `Stopped` after a signal.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.augment import engines
from ssljax.augment.cache import Cache
from ssljax.augment.engine import Engine
from ssljax.augment.filters.encoder import load_filters
from ssljax.augment.query import CachedEngine
from ssljax.augment.rows import DROPPED, ShardResult, augment_shard
from ssljax.augment.settings import Settings
from ssljax.data.batches.word_noise import Vocabulary
from ssljax.data.records import files
from ssljax.data.records.schema import SCHEMA
from ssljax.runtime.signals import StopSignals


class Task(NamedTuple):
  """Everything a worker process needs to make the same views as every other worker."""

  settings: Settings
  keywords: Mapping[str, Any]  # of the engine
  shared: Mapping[str, Any]  # see `engines.make`
  origin: str
  vocabulary: Vocabulary | None  # for the fallback "words"


class Job(NamedTuple):
  """One run over a dataset folder."""

  task: Task
  files: Sequence[tuple[Path, Path]]  # (Parquet file to read, file to write)
  dropped: Path  # Parquet file for the dropped candidates
  total: int  # texts that get views
  engine: Engine  # of the main process
  stop: StopSignals


class Augmenter:
  """Adds views to shards; holds an engine, the filters and a cache connection."""

  def __init__(
    self, task: Task, engine: Engine | None = None, stop: StopSignals | None = None
  ):
    """Loads the filters; makes the task's engine if `engine` is None."""
    if engine is None:
      engine = engines.make(task.settings.engine, task.keywords, task.shared)
    self._query = CachedEngine(engine, Cache() if engine.stored else None, stop)
    self.close = self._query.close
    self._augment = partial(
      augment_shard,
      query=self._query,
      settings=task.settings,
      origin=task.origin,
      encoder_filters=load_filters(task.settings),
      vocabulary=task.vocabulary,
    )

  def augment(self, table: pa.Table, **on_progress: Callable) -> ShardResult:
    """Calls `augment_shard`, with `on_progress` optional, and also counts answers."""
    result = self._augment(table, **on_progress)
    counts = result.counts + self._query.counts
    self._query.counts.clear()
    return result._replace(counts=counts)


def write_results(
  job: Job, augment: Callable[[Path], Generator[ShardResult, None, None]]
) -> Counter[str]:
  """Writes the results of `augment(file)` for each file; returns the total counts."""
  counts: Counter[str] = Counter()
  with pq.ParquetWriter(job.dropped, DROPPED, **files.PARQUET) as dropped:
    for source, target in job.files:
      with (
        contextlib.closing(augment(source)) as results,
        pq.ParquetWriter(target, SCHEMA, **files.PARQUET) as file,
      ):
        for result in results:
          counts.update(result.counts)
          if result.dropped.num_rows:  # an empty table would become an empty row group
            dropped.write_table(result.dropped)
          file.write_table(result.table, row_group_size=job.task.settings.shard)
  return counts

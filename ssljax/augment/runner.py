"""Defines what local_runner and ray_runner share: their interface and their workers.

A runner is a function `write_views(job)`. It reads the Parquet files of a dataset
folder, adds views to their rows, and writes them to new files.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ssljax.augment import engines
from ssljax.augment.cache import Cache
from ssljax.augment.engine import Engine
from ssljax.augment.filters.encoder import load_filters
from ssljax.augment.query import CachedEngine
from ssljax.augment.rows import ShardResult, augment_shard
from ssljax.augment.settings import Settings
from ssljax.data.batches.word_noise import Vocabulary
from ssljax.runtime.signals import StopSignals


class Task(NamedTuple):
  """Everything a worker process needs to make the same views as any other."""

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
  """Adds views to shards with a separate engine, filters and cache connection."""

  def __init__(
    self, task: Task, engine: Engine | None = None, stop: StopSignals | None = None
  ):
    """Loads what the task needs.

    Args:
      engine: by default that of the task.
      stop: as for `CachedEngine`.
    """
    if engine is None:
      engine = engines.make(task.settings.engine, task.keywords, task.shared)
    self._task, self._filters = task, load_filters(task.settings)
    self._engine = CachedEngine(engine, Cache() if engine.stored else None, stop)
    self.counts, self.close = self._engine.counts, self._engine.close

  def __call__(
    self, table: pa.Table, on_progress: Callable[[int, int], None] | None = None
  ) -> ShardResult:
    """See `augment_shard`."""
    return augment_shard(
      table,
      self._engine,
      self._task.settings,
      self._task.origin,
      self._filters,
      self._task.vocabulary,
      on_progress,
    )


# Returns the counts of the report. Raises Stopped after a signal.
Runner = Callable[[Job], Counter[str]]

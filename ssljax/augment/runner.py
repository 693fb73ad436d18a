"""Defines what local_runner and ray_runner share: their interface and their workers.

A runner is a function `write_views(job)`. It reads the Parquet files of a dataset
folder, adds views to their rows, and writes the rows to new files. It returns the
counts of the report, and raises `Stopped` after a signal.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ssljax.augment import engines
from ssljax.augment.cache import Cache
from ssljax.augment.engine import Engine
from ssljax.augment.filters.encoder import load_filters
from ssljax.augment.query import CachedEngine
from ssljax.augment.rows import augment_shard
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
  """Adds views to shards; holds an engine, the filters and a cache connection.

  `augment(table)` calls `augment_shard`, also with its keyword `on_progress`.
  """

  def __init__(
    self, task: Task, engine: Engine | None = None, stop: StopSignals | None = None
  ):
    """Loads the filters, and by default also the engine of the task."""
    if engine is None:
      engine = engines.make(task.settings.engine, task.keywords, task.shared)
    query = CachedEngine(engine, Cache() if engine.stored else None, stop)
    self.counts, self.close = query.counts, query.close
    self.augment = partial(
      augment_shard,
      query=query,
      settings=task.settings,
      origin=task.origin,
      encoder_filters=load_filters(task.settings),
      vocabulary=task.vocabulary,
    )

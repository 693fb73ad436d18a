"""Defines what a runner does: the interface of local_runner and ray_runner.

A runner is a function `write_views(job)`. It reads the Parquet files of a dataset
folder, adds views to their rows, and writes them to new files.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssljax.augment.engine import Engine
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


# Returns the counts of the report. Raises Stopped after a signal.
Runner = Callable[[Job], Counter[str]]

"""Adds views on this machine: in this process, or in several worker processes.

The result doesn't depend on the number of processes: tables come back in order, and a
view depends on its text alone, not on the process that made it.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.augment import storage
from ssljax.augment.query import Stopped
from ssljax.augment.rows import DROPPED, ShardResult
from ssljax.augment.runner import Augmenter, Job, Task
from ssljax.augment.settings import worker_count
from ssljax.data.records import checks
from ssljax.data.records.records import Records
from ssljax.errors import RunError
from ssljax.runtime import signals
from ssljax.runtime.progress import Progress

CACHE_SECONDS = 30.0  # the first answers often come from the cache, faster than later


def write_views(job: Job) -> Counter[str]:
  """Writes each file, its first rows (`job.total` over all files) with views.

  Raises:
    UserError: a row of the dataset is malformed, or the engine can't continue.
    Stopped: a signal arrived.
  """
  counts: Counter[str] = Counter()
  rows = job.task.settings.shard
  processes = worker_count(job.task.settings, local=not job.engine.stored)
  processes = min(processes, -(-job.total // rows))
  with contextlib.ExitStack() as stack:
    progress = stack.enter_context(Progress(job.total, "answer", settle=CACHE_SECONDS))

    def on_progress(answers: int, more: int) -> None:
      progress.update(answers, job.engine.usage(), added=more)

    augment: Callable[[Iterable[pa.Table]], Iterator[ShardResult]]
    engine_counts: Counter[str] = Counter()  # worker processes don't report them
    if processes > 1:
      pool = _WorkerPool(job, processes, on_progress)
      stack.callback(pool.close)
      augment = pool.map
    else:
      augmenter = Augmenter(job.task, job.engine, job.stop)
      stack.callback(augmenter.close)
      augment = partial(map, partial(augmenter, on_progress=on_progress))
      engine_counts = augmenter.counts
    writer = stack.enter_context(
      pq.ParquetWriter(job.dropped, DROPPED, compression="zstd")
    )

    def add_views(tables: Iterator[pa.Table], path: Path) -> Iterator[pa.Table]:
      tables, rest = _validated(tables, path), []
      for result in augment(_take(tables, job.total - counts["texts"], rest)):
        counts.update(result.counts)
        if result.dropped.num_rows:
          writer.write_table(result.dropped)
        yield result.table
      yield from rest
      yield from tables

    for source, target in job.files:
      change = partial(add_views, path=source)
      storage.rewrite_parquet(source, target, rows, change)
    return counts + engine_counts


class _WorkerPool:
  """Worker processes with a few tables in flight."""

  def __init__(self, job: Job, processes: int, on_progress: Callable[[int, int], None]):
    self._pool = ProcessPoolExecutor(
      processes, multiprocessing.get_context("spawn"), _start_worker, (job.task,)
    )
    self._max_in_flight, self._stop = 2 * processes, job.stop
    self._on_progress = on_progress

  def map(self, tables: Iterable[pa.Table]) -> Iterator[ShardResult]:
    """Augments the tables in their order."""
    in_flight: deque[Future[ShardResult]] = deque()
    try:
      for table in tables:
        in_flight.append(self._submit(table))
        if len(in_flight) > self._max_in_flight:
          yield self._next(in_flight)
      while in_flight:
        yield self._next(in_flight)
    except BrokenProcessPool:
      raise RunError(
        "a worker process died, possibly because memory ran out; try "
        "--config.workers=1 or a smaller --config.shard"
      ) from None

  def _submit(self, table: pa.Table) -> Future[ShardResult]:
    # This may start a process. It inherits the blocked signals, which would otherwise
    # end it before it can ignore them.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signals.EXIT_CODES)
    try:
      return self._pool.submit(_augment_in_worker, table)
    finally:
      signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

  def _next(self, in_flight: deque[Future[ShardResult]]) -> ShardResult:
    if self._stop:
      raise Stopped
    result = in_flight.popleft().result()
    self._on_progress(result.table.num_rows, 0)
    return result

  def close(self) -> None:
    self._pool.shutdown(wait=True, cancel_futures=True)


_worker: list[Augmenter] = []  # of this worker process


def _start_worker(task: Task) -> None:
  signals.ignore()  # a terminal sends Ctrl-C to workers as well; the parent ends them
  threading.Thread(target=_exit_with_parent, daemon=True).start()
  _worker.append(Augmenter(task))


def _augment_in_worker(table: pa.Table) -> ShardResult:
  return _worker[0](table)


def _exit_with_parent() -> None:
  multiprocessing.parent_process().join()  # also returns after kill -9 of the parent
  os._exit(1)


def _take(
  tables: Iterator[pa.Table], rows: int, rest: list[pa.Table]
) -> Iterator[pa.Table]:
  """Yields the first `rows` rows; the remainder of a cut table goes to `rest`.

  Reads no more tables than needed.
  """
  while rows > 0 and (table := next(tables, None)) is not None:
    if table.num_rows > rows:
      rest.append(table.slice(rows))
    yield table.slice(0, rows)
    rows -= table.num_rows


def _validated(tables: Iterator[pa.Table], path: Path) -> Iterator[pa.Table]:
  """Yields the tables after checking their records; errors name the file and row."""
  begin = 1
  for table in tables:
    n = table.num_rows
    row_numbers = np.arange(begin, begin + n)
    checks.check_rows(Records(table, (path,), np.zeros(n, np.int32), row_numbers))
    begin += n
    yield table

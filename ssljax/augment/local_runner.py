"""Adds views on this machine: in this process, or in several worker processes.

The number of processes doesn't change the result: the order of the tables is kept, and
a view depends only on its text, not on the process that makes it.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pyarrow as pa

from ssljax.augment import storage
from ssljax.augment.query import Stopped
from ssljax.augment.rows import DROPPED, ShardResult
from ssljax.augment.runner import Augmenter, Job, Task, write_results
from ssljax.data.records import checks
from ssljax.data.records.records import Records
from ssljax.errors import RunError
from ssljax.runtime import children, signals
from ssljax.runtime.progress import Progress
from ssljax.runtime.signals import StopSignals

CACHE_SECONDS = 30.0  # before the first progress line; early answers may be cached


def write_views(job: Job) -> Counter[str]:
  """Adds views to the first `job.total` rows of the files, and copies the other rows.

  Raises:
    UserError: a row of the dataset is malformed, or the engine can't continue.
    Stopped: a signal arrived.
  """
  settings, remaining = job.task.settings, job.total
  processes = 1
  # An engine with a server sends concurrent requests itself. The encoder filters use
  # JAX, which uses all cores in one process.
  if not (job.engine.stored or settings.least_similarity or settings.label_check):
    shards = -(-job.total // settings.shard)
    processes = min(settings.workers or len(os.sched_getaffinity(0)), shards)
  with contextlib.ExitStack() as stack:
    progress = stack.enter_context(Progress(job.total, "answer", settle=CACHE_SECONDS))

    def on_progress(answers: int, more: int) -> None:
      progress.update(answers, job.engine.usage(), added=more)

    if processes > 1:
      spawn = multiprocessing.get_context("spawn")
      others = multiprocessing.active_children()
      try:
        pool = ProcessPoolExecutor(processes, spawn, _start_worker, (job.task,))
      except OSError as error:  # its queues need a little shared memory
        raise RunError(
          f"cannot start {processes} worker processes ({error}); free some space in "
          "/dev/shm, or set --config.workers=1"
        ) from error
      stack.callback(pool.shutdown, cancel_futures=True)
      augment = partial(
        _map_in_pool, pool, others, 2 * processes, job.stop, on_progress
      )
    else:
      augmenter = Augmenter(job.task, job.engine, job.stop)
      stack.callback(augmenter.close)
      augment = partial(map, partial(augmenter.augment, on_progress=on_progress))

    def augment_file(source: Path) -> Generator[ShardResult, None, None]:
      nonlocal remaining
      with contextlib.closing(storage.read_tables(source, settings.shard)) as tables:
        tables, rest = _validated(tables, source), []
        for result in augment(_take(tables, remaining, rest)):
          remaining -= result.table.num_rows
          yield result
        for table in itertools.chain(rest, tables):
          yield ShardResult(table, Counter(), DROPPED.empty_table())

    return write_results(job, augment_file)


def _map_in_pool(
  pool: ProcessPoolExecutor,
  others: Sequence[BaseProcess],
  max_in_flight: int,
  stop: StopSignals,
  on_progress: Callable[[int, int], None],
  tables: Iterable[pa.Table],
) -> Iterator[ShardResult]:
  """Augments tables in worker processes; yields the results in the tables' order.

  Args:
    others: child processes that don't belong to the pool.
  """
  in_flight: deque[Future[ShardResult]] = deque()

  def next_result() -> ShardResult:
    if stop:
      raise Stopped
    result = in_flight.popleft().result()
    on_progress(result.table.num_rows, 0)
    return result

  try:
    for table in tables:
      # `submit` may start a process. The process inherits the blocked signals, so that
      # no signal can end it before it ignores them.
      blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signals.EXIT_CODES)
      try:
        in_flight.append(pool.submit(_augment_in_worker, table))
      finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
      if len(in_flight) > max_in_flight:
        yield next_result()
    while in_flight:
      yield next_result()
  except BrokenProcessPool:
    # The pool sends SIGTERM to the other workers, which ignore it, and waits for them.
    for process in multiprocessing.active_children():
      if process not in others:
        process.kill()
    if stop:  # a signal to the process group may also have ended the worker
      raise Stopped from None
    raise RunError(
      "a worker process died, possibly because memory ran out; try --config.workers=1 "
      "or a smaller --config.shard"
    ) from None


_worker: list[Augmenter] = []  # holds the Augmenter of this worker process


def _start_worker(task: Task) -> None:
  children.serve_parent()
  _worker.append(Augmenter(task))


def _augment_in_worker(table: pa.Table) -> ShardResult:
  return _worker[0].augment(table)


def _take(
  tables: Iterator[pa.Table], rows: int, rest: list[pa.Table]
) -> Iterator[pa.Table]:
  """Yields the first `rows` rows; appends the rest of the last table to `rest`."""
  while rows > 0 and (table := next(tables, None)) is not None:
    if table.num_rows > rows:
      rest.append(table.slice(rows))
    yield table.slice(0, rows)
    rows -= table.num_rows


def _validated(tables: Iterator[pa.Table], path: Path) -> Iterator[pa.Table]:
  """Yields the tables after checking their records; errors give the file and row."""
  begin = 1
  for table in tables:
    n = table.num_rows
    lines = np.arange(begin, begin + n)
    checks.check_rows(Records(table, (path,), np.zeros(n, np.int32), lines))
    begin += n
    yield table

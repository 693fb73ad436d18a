"""Runs `shard` over a stream of tables: here, or in processes of their own.

The result is the same for any number of processes: tables come back in order, and a
view depends on its text, never on who made it.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import pyarrow as pa

from ssljax.augment import engines
from ssljax.augment.query import Asker, Stopped
from ssljax.augment.rows import Judge, Made, shard
from ssljax.augment.settings import Settings
from ssljax.data.batches.word_noise import Vocabulary
from ssljax.errors import RunError
from ssljax.runtime import signals
from ssljax.runtime.signals import StopSignals


class Task(NamedTuple):
  """All that a process needs to make the same views as any other."""

  settings: Settings
  keywords: Mapping[str, Any]  # of the engine
  shared: Mapping[str, Any]
  origin: str
  known: Vocabulary | None


class Here:
  """In this process, one table after another."""

  def __init__(
    self, task: Task, ask: Asker, judge: Judge, tick: Callable[[int, int], None]
  ):
    self._task, self._ask, self._judge, self._tick = task, ask, judge, tick

  def __call__(self, tables: Iterable[pa.Table]) -> Iterator[Made]:
    task = self._task
    for table in tables:
      yield shard(
        table,
        self._ask,
        task.settings,
        task.origin,
        self._judge,
        task.known,
        self._tick,
      )

  def close(self) -> None:
    pass


class Beside:
  """In processes of their own; a few tables are under way at a time."""

  def __init__(
    self,
    task: Task,
    processes: int,
    stop: StopSignals,
    tick: Callable[[int, int], None],
  ):
    self._pool = ProcessPoolExecutor(
      processes, multiprocessing.get_context("spawn"), _begin, (task,)
    )
    self._most, self._stop, self._tick = 2 * processes, stop, tick

  def __call__(self, tables: Iterable[pa.Table]) -> Iterator[Made]:
    running: deque = deque()
    try:
      for table in tables:
        running.append(self._pool.submit(_work, table))
        if len(running) > self._most:
          yield self._first(running)
      while running:
        yield self._first(running)
    except BrokenProcessPool:
      raise RunError(
        "a process that makes views died, perhaps for want of memory: try "
        "--config.workers=1 or a smaller --config.shard"
      ) from None

  def _first(self, running: deque) -> Made:
    if self._stop:
      raise Stopped
    made = running.popleft().result()
    self._tick(made.table.num_rows, 0)
    return made

  def close(self) -> None:
    self._pool.shutdown(wait=True, cancel_futures=True)


_mine: dict[str, Any] = {}  # of a worker process


def _begin(task: Task) -> None:
  signals.ignore()  # a terminal sends Ctrl-C to workers as well; the parent ends them
  threading.Thread(target=_end_with_parent, daemon=True).start()
  engine = engines.make(task.settings.engine, task.keywords, task.shared)
  _mine.update(task=task, ask=Asker(engine))


def _work(table: pa.Table) -> Made:
  task = _mine["task"]
  return shard(table, _mine["ask"], task.settings, task.origin, known=task.known)


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()  # a kill -9 leaves no orphan behind
  os._exit(1)

"""Runs coroutines for many jobs and yields each result as soon as it is ready.

The engine interface is synchronous, so the event loop runs in a background thread.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from ssljax.errors import UserError

MAX_UNREAD = 4  # results per worker; while this many are unread, workers wait


def run_concurrently(
  jobs: int,
  open_session: Callable[[], AbstractAsyncContextManager[Any]],
  work: Callable[[Any, int], Awaitable[Any]],
  concurrency: int,
) -> Iterator[Any]:
  """Yields the result of `work` for each job, in the order in which the jobs finish.

  If `work` raises UserError, no new job starts, and the results of jobs in progress are
  yielded before the error is raised. Any other exception cancels the jobs in progress.
  Closing the iterator also cancels them, and waits until the session is closed and the
  thread has ended.

  Args:
    jobs: number of jobs; they start in order, each as soon as a worker is free.
    open_session: returns a context manager for the session, which all jobs share.
    work: called as `work(session, i)` for job i; returns None if the job has no result.
    concurrency: number of workers.
  """
  if not jobs:
    return
  results: queue.SimpleQueue[Any] = queue.SimpleQueue()  # None is the end
  unread = asyncio.Semaphore(MAX_UNREAD * concurrency)
  remaining = iter(range(jobs))
  errors: list[BaseException] = []  # the first one is raised at the end

  async def worker(session: Any) -> None:
    await unread.acquire()
    for job in remaining:
      if errors:
        return
      try:
        if (result := await work(session, job)) is not None:
          results.put(result)
          await unread.acquire()
      except UserError as error:
        errors.append(error)

  async def run() -> None:
    async with open_session() as session, asyncio.TaskGroup() as group:
      for _ in range(min(concurrency, jobs)):
        group.create_task(worker(session))

  runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
  loop = runner.get_loop()
  task = loop.create_task(run())

  def run_thread() -> None:
    try:
      with runner:
        loop.run_until_complete(task)
    except asyncio.CancelledError:  # usually after the iterator was closed
      errors.insert(0, RuntimeError("the requests were cancelled"))
    except BaseException as error:
      while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
      errors.insert(0, error)
    results.put(None)

  def call_in_loop(function: Callable[[], Any]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
      loop.call_soon_threadsafe(function)

  # A daemon thread doesn't keep the interpreter from exiting.
  thread = threading.Thread(target=run_thread, name="augment-requests", daemon=True)
  thread.start()
  try:
    while (result := results.get()) is not None:
      call_in_loop(unread.release)
      yield result
    if errors:
      raise errors[0]
  finally:
    call_in_loop(task.cancel)
    thread.join()

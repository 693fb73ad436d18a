"""Runs coroutines for many jobs and yields each result as soon as it is ready.

The engine interface is synchronous, so the event loop runs in a background thread.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from ssljax.errors import UserError

Session = TypeVar("Session")
Job = TypeVar("Job")
Result = TypeVar("Result")

MAX_UNREAD = 4  # results per worker; workers wait while so many are unread


def run_concurrently(
  jobs: Sequence[Job],
  open_session: Callable[[], AbstractAsyncContextManager[Session]],
  work: Callable[[Session, Job], Awaitable[Result | None]],
  concurrency: int,
  stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
  """Yields the result of `work` for each job, in the order in which the jobs finish.

  If `work` raises UserError, no new job starts, and the results of jobs in progress are
  yielded before the error is raised. Any other exception cancels the jobs in progress.
  Closing the iterator cancels them as well, and waits until the session is closed and
  the thread has ended.

  Args:
    jobs: started in order, each as soon as a worker is free.
    open_session: returns a context manager for the session, which all jobs share.
    work: called as `work(session, job)`; returns None if the job has no result.
    concurrency: number of workers.
    stopped: once `stopped()` is true, no new job starts.
  """
  if not jobs:
    return
  messages: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
  unread = asyncio.Semaphore(MAX_UNREAD * concurrency)
  remaining = iter(jobs)
  errors: list[UserError] = []

  async def worker(session: Session) -> None:
    await unread.acquire()
    for job in remaining:
      if errors or stopped():
        return
      try:
        if (result := await work(session, job)) is not None:
          messages.put(("result", result))
          await unread.acquire()
      except UserError as error:
        errors.append(error)

  async def run() -> None:
    async with open_session() as session, asyncio.TaskGroup() as group:
      for _ in range(min(concurrency, len(jobs))):
        group.create_task(worker(session))
    if errors:
      raise errors[0]

  runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
  loop = runner.get_loop()
  task = loop.create_task(run())

  def run_thread() -> None:
    try:
      with runner:
        loop.run_until_complete(task)
      messages.put(("end", None))
    except asyncio.CancelledError:  # usually after the iterator was closed
      messages.put(("error", RuntimeError("the requests were cancelled")))
    except BaseException as error:
      while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
      messages.put(("error", error))

  def call_in_loop(function: Callable[[], Any]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
      loop.call_soon_threadsafe(function)

  # A daemon thread doesn't keep the interpreter from exiting.
  thread = threading.Thread(target=run_thread, name="augment-requests", daemon=True)
  thread.start()
  try:
    while True:
      kind, value = messages.get()
      if kind == "end":
        return
      if kind == "error":
        raise value
      call_in_loop(unread.release)
      yield value
  finally:
    call_in_loop(task.cancel)
    thread.join()

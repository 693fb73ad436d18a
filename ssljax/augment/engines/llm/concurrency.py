"""Runs coroutines for many jobs and yields results as soon as they are ready.

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

Job = TypeVar("Job")
Result = TypeVar("Result")
Work = Callable[[Job], Awaitable[Result | None]]

MAX_UNREAD = 4  # results per worker that the consumer hasn't read; workers then wait


def run_concurrently(
  jobs: Sequence[Job],
  open_session: Callable[[], AbstractAsyncContextManager[Work]],
  concurrency: int,
  stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
  """Yields `await work(job)` for each job, in the order in which they finish.

  If `work` raises UserError, no new job starts; results of jobs in progress are yielded
  before the error is raised. Any other exception cancels them, and so does closing the
  iterator, which then waits until the session is closed and the thread has ended.

  Args:
    jobs: started in order, each as soon as a worker is free.
    open_session: returns the context manager in which jobs run; it yields `work`. A job
      for which `work` returns None yields nothing.
    concurrency: number of workers.
    stopped: once it returns True, no new job starts.
  """
  if not jobs:
    return
  messages: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
  started = threading.Event()
  running: dict[str, Any] = {}  # filled by the thread before `started` is set

  async def run() -> None:
    running["loop"] = asyncio.get_running_loop()
    running["task"] = asyncio.current_task()
    running["unread"] = unread = asyncio.Semaphore(MAX_UNREAD * concurrency)
    started.set()
    remaining = iter(jobs)
    errors: list[UserError] = []

    async def worker(work: Work) -> None:
      while not errors:
        await unread.acquire()
        if errors or stopped():
          return
        try:
          job = next(remaining)
        except StopIteration:
          return
        try:
          if (result := await work(job)) is None:
            unread.release()
          else:
            messages.put(("result", result))
        except UserError as error:
          errors.append(error)

    async with open_session() as work, asyncio.TaskGroup() as group:
      for _ in range(min(concurrency, len(jobs))):
        group.create_task(worker(work))
    if errors:
      raise errors[0]

  def run_thread() -> None:
    try:
      asyncio.run(run())
      messages.put(("end", None))
    except asyncio.CancelledError:  # the consumer has left and won't read this
      messages.put(("error", RuntimeError("the requests were cancelled")))
    except BaseException as error:
      while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
      messages.put(("error", error))
    finally:
      started.set()

  def call_in_loop(function: Callable[[], Any]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
      running["loop"].call_soon_threadsafe(function)

  # A daemon, so that the interpreter can exit while the iterator is open.
  thread = threading.Thread(target=run_thread, name="augment-requests", daemon=True)
  thread.start()
  started.wait()
  try:
    while True:
      kind, value = messages.get()
      if kind == "end":
        return
      if kind == "error":
        raise value
      call_in_loop(running["unread"].release)
      yield value
  finally:
    if running:
      call_in_loop(running["task"].cancel)
    thread.join()

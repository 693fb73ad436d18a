"""Runs coroutines over many jobs in a thread, and yields their results as they come."""

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

AHEAD = 4  # results per worker that may wait for the consumer before new work waits


def stream(
  jobs: Sequence[Job],
  opened: Callable[[], AbstractAsyncContextManager[Callable[[Job], Awaitable[Result]]]],
  width: int,
  ended: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
  """Yields `work(job)` of each job, in the order in which they are done.

  Args:
    jobs: begun in order; at most `width` at once, the next as soon as one is done.
    opened: gives the context in whose event loop the work is done; it yields `work`.
      A `work` that returns None yields nothing.
    width: number of workers.
    ended: becomes true when no further job is to be begun.

  A UserError of `work` begins no new job, lets those that were begun end, yields their
  results and is then raised; any other exception cancels them. Closing the iterator
  cancels them too and returns when the context has been left and the thread has ended.
  """
  if not jobs:
    return
  results: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
  started = threading.Event()
  handle: dict[str, Any] = {}

  async def run() -> None:
    handle["loop"], handle["task"] = asyncio.get_running_loop(), asyncio.current_task()
    handle["room"] = room = asyncio.Semaphore(AHEAD * width)
    started.set()
    waiting = iter(jobs)
    stopped: list[UserError] = []

    async def worker(work: Callable[[Job], Awaitable[Result]]) -> None:
      while not stopped:
        await room.acquire()
        job = next(waiting, handle)
        if job is handle or stopped or ended():
          return
        try:
          if (result := await work(job)) is None:
            room.release()
          else:
            results.put(("result", result))
        except UserError as error:
          stopped.append(error)

    async with opened() as work, asyncio.TaskGroup() as group:
      for _ in range(min(width, len(jobs))):
        group.create_task(worker(work))
    if stopped:
      raise stopped[0]

  def thread() -> None:
    try:
      asyncio.run(run())
      results.put(("end", None))
    except asyncio.CancelledError:  # the consumer left and does not read this
      results.put(("error", RuntimeError("the requests were cancelled")))
    except BaseException as error:
      while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
      results.put(("error", error))
    finally:
      started.set()

  def tell(what: Callable[[], Any]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
      handle["loop"].call_soon_threadsafe(what)

  # A daemon: an interpreter that ends with the iterator still open does not wait.
  running = threading.Thread(target=thread, name="augment-requests", daemon=True)
  running.start()
  started.wait()
  try:
    while True:
      kind, value = results.get()
      if kind == "end":
        return
      if kind == "error":
        raise value
      tell(handle["room"].release)
      yield value
  finally:
    if handle:
      tell(handle["task"].cancel)
    running.join()

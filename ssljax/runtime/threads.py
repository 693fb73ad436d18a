"""Runs a call in a thread that can be abandoned."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


def start(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Future[Any]:
  """Starts a call in a daemon thread, which doesn't keep the process alive.

  size = start(os.path.getsize, path).result(5.0)  # raises TimeoutError after 5 s
  """
  future: Future[Any] = Future()

  def run() -> None:
    try:
      future.set_result(call(*arguments, **keywords))
    except BaseException as error:
      future.set_exception(error)

  threading.Thread(target=run, daemon=True).start()
  return future

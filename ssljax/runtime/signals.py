"""Handles SIGINT and SIGTERM: the first asks to stop, the second stops at once."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from ssljax.errors import INTERRUPTED, TERMINATED

EXIT_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class StopSignals:
  """Sets `code` when a signal arrives, so that the work stops at a safe point.

  The end of the `with` block restores the previous handlers. Outside the main thread,
  Python delivers no signals, and the block does nothing.

    with StopSignals() as stop:
      for step in range(steps):
        ...
        if stop.code:
          return stop.code
  """

  def __init__(
    self,
    on_stop: Callable[[], Any] | None = None,
    abort: Callable[[int], Any] | None = None,
    signals: tuple[signal.Signals, ...] = tuple(EXIT_CODES),
  ):
    """`with` installs the handlers.

    Args:
      on_stop: called once, by the first signal.
      abort: called with the exit code by the second signal. By default the previous
        handler gets this signal: SIGINT raises KeyboardInterrupt, and SIGTERM ends the
        process.
      signals: which signals to handle.
    """
    self.code = 0  # exit code of the first signal; 0 before it
    self.on_stop = on_stop
    self._abort, self._signals = abort, signals
    self._previous: dict[int, Any] = {}

  def __bool__(self) -> bool:
    return bool(self.code)

  def __enter__(self) -> "StopSignals":
    if threading.current_thread() is threading.main_thread():
      self._previous = {number: signal.getsignal(number) for number in self._signals}
      self.install()
    return self

  def __exit__(self, *error: object) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    self._previous = {}

  def install(self) -> None:
    """Installs the handlers again, after a library has replaced them."""
    for number in self._previous:
      signal.signal(number, self._handle)

  def _handle(self, number: int, frame: FrameType | None) -> None:
    code = EXIT_CODES[number]
    if not self.code:
      self.code = code
      if self.on_stop is not None:
        self.on_stop()
    elif self._abort is not None:
      self._abort(code)
    else:
      signal.signal(number, self._previous[number])
      os.kill(os.getpid(), number)


def ignore() -> None:
  """Ignores both signals, in a worker process whose parent handles them."""
  for number in EXIT_CODES:
    signal.signal(number, signal.SIG_IGN)

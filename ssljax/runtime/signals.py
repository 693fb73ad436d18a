"""Handles SIGINT and SIGTERM: the first asks to stop, a second Ctrl-C stops at once."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from ssljax.errors import INTERRUPTED, TERMINATED

EXIT_CODES: dict[int, int] = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class StopSignals:
  """Sets `code` when a signal arrives, so that the work can stop at a safe point.

  The second SIGINT goes to the previous handler, which raises KeyboardInterrupt by
  default. Further SIGTERMs are ignored, because launchers and schedulers repeat them
  while the work is being saved.

  The end of the `with` block restores the previous handlers. A signal that the process
  ignores, as a background job of a shell does, stays ignored. Python delivers signals
  only to the main thread; in other threads, the block does nothing.

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
    signals: tuple[int, ...] = tuple(EXIT_CODES),
  ):
    """Stores the arguments; `with` installs the handlers.

    Args:
      on_stop: called once, by the first signal.
      abort: called with the exit code by every signal after the first, instead of what
        the class description says.
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
      for number in self._signals:
        handler = signal.getsignal(number)
        # None stands for a handler in C, which Python couldn't restore: leave it alone.
        if handler not in (None, signal.SIG_IGN):
          self._previous[number] = handler
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
    if self.code and self._abort is not None:
      self._abort(EXIT_CODES[number])
      return
    if number == signal.SIGINT and self._abort is None:
      signal.signal(number, self._previous[number])  # for the second SIGINT
    if not self.code:
      self.code = EXIT_CODES[number]
      if self.on_stop is not None:
        self.on_stop()

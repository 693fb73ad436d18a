"""SIGINT and SIGTERM: the first asks to stop, the second stops at once."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator

from ssljax.errors import INTERRUPTED, TERMINATED

SIGNALS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class Stop:
  """`stop()` is true once a signal has come; `code` is then the exit code."""

  def __init__(self):
    self.code = 0
    self.tell: Callable[[], None] | None = None  # called by the first signal
    self.listen: Callable[[], None] = lambda: None  # again, after others took signals

  def __call__(self) -> bool:
    return bool(self.code)

  @contextlib.contextmanager
  def on_signals(self) -> Iterator[None]:
    """Inside the block, which must be in the main thread, signals set `code`."""

    def handle(number, frame):
      if self.code:  # the data folder is whole at any moment
        os._exit(SIGNALS[number])
      self.code = SIGNALS[number]
      print("stopping after what is in flight ...", file=sys.stderr, flush=True)
      if self.tell is not None:
        self.tell()

    def listen():
      for number in SIGNALS:
        signal.signal(number, handle)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    self.listen = listen
    listen()
    try:
      yield
    finally:
      self.listen = lambda: None
      for number, handler in before.items():
        signal.signal(number, handler)

"""The console of `python -m ssljax.augment`: texts done, ETA, what it has cost."""

import sys
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

EVERY = 30.0  # seconds between two lines where there is no terminal


class Progress:
  """A bar on a terminal, else a line now and then. All on stderr."""

  def __init__(self, total: int, usage: Callable[[], Mapping[str, float]] = dict):
    """Begins with `total` texts; `usage` is that of the engine."""
    self._usage, self._total, self._done = usage, total, 0
    self._began = self._said = time.monotonic()
    self._bar = None
    if sys.stderr.isatty():
      self._bar = tqdm(
        total=total, unit="text", dynamic_ncols=True, smoothing=0.05, file=sys.stderr
      )

  def __call__(self, texts: int) -> None:
    """`texts` more are done; 0 only shows what has changed."""
    self._done += texts
    now = time.monotonic()
    if self._bar is not None:
      if now - self._said >= 1:
        self._said = now
        self._bar.set_postfix_str(self._cost(), refresh=False)
      self._bar.update(texts)
    elif now - self._said >= EVERY:
      self._said = now
      left = self._total - self._done
      each = (now - self._began) / max(self._done, 1)
      rest = tqdm.format_interval(each * left)
      line = f"{self._done}/{self._total} texts, ETA {rest} {self._cost()}"
      print(line.strip(), file=sys.stderr, flush=True)

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()

  def _cost(self) -> str:
    return " ".join(f"{name} {value:.6g}" for name, value in self._usage().items())

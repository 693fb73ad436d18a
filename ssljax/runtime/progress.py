"""The console of `python -m ssljax.augment`: answers, ETA, what they have cost."""

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping

from tqdm import tqdm

EVERY = 30.0  # seconds between two lines where there is no terminal
LINES = 20  # back, from where on the speed is taken


class Progress:
  """A bar on a terminal, else a line now and then. All on stderr."""

  def __init__(self, total: int, usage: Callable[[], Mapping[str, float]] = dict):
    """Begins with `total` texts, an answer each; `usage` is that of the engine."""
    self._usage, self._total, self._done = usage, total, 0
    self._said = time.monotonic()
    # Not from the start, where all that a cache has comes at once.
    self._marks: deque[tuple[float, int]] = deque(maxlen=LINES + 1)
    self._bar = None
    if sys.stderr.isatty():
      self._bar = tqdm(
        total=total, unit="answer", dynamic_ncols=True, smoothing=0.05, file=sys.stderr
      )

  def __call__(self, answers: int, more: int = 0) -> None:
    """`answers` came; `more` are awaited than before, as texts are asked again."""
    self._done += answers
    self._total += more
    now = time.monotonic()
    if self._bar is not None:
      self._bar.total = self._total
      if now - self._said >= 1:
        self._said = now
        self._bar.set_postfix_str(self._cost(), refresh=False)
      self._bar.update(answers)
    elif now - self._said >= EVERY:
      self._said = now
      self._marks.append((now, self._done))
      print(self._line(), file=sys.stderr, flush=True)

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()

  def _line(self) -> str:
    (began, before), (now, done) = self._marks[0], self._marks[-1]
    rest = "?"
    if done > before:
      each = (now - began) / (done - before)
      rest = tqdm.format_interval(each * (self._total - done))
    return f"{done}/{self._total} answers, ETA {rest} {self._cost()}".strip()

  def _cost(self) -> str:
    return " ".join(f"{name} {value:.6g}" for name, value in self._usage().items())

"""Shows progress on standard error: a bar on a terminal, otherwise regular lines."""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Mapping

from tqdm import tqdm

EVERY = 30.0  # seconds between lines
RECENT = 20  # the remaining time is estimated from this many lines


class Progress(contextlib.AbstractContextManager):
  """Counts finished units of work and shows the rate and the remaining time."""

  def __init__(
    self,
    total: int | None,
    unit: str,
    initial: int = 0,
    active: bool = True,
    label: str = "",
    settle: float = 0.0,
  ):
    """Starts the display.

    Args:
      total: units of the whole work; None if unknown.
      unit: name of one unit, such as "step".
      initial: units that were finished earlier.
      active: False makes every call do nothing (processes other than the first).
      label: text at the start of the line.
      settle: seconds at the start that the rate leaves out, for example because the
        first units come from a cache.
    """
    self._total, self._unit, self._done = total, unit, initial
    self._active, self._label = active, label
    self._values: dict[str, float] = {}
    # (time, units) at each line. The time before the first line doesn't count: it may
    # be compilation, or reading from a cache.
    self._marks: deque[tuple[float, int]] = deque(maxlen=RECENT + 1)
    self._next_line = time.monotonic() + settle
    self._bar = None
    if active and sys.stderr.isatty():
      self._bar = tqdm(
        desc=label or None,
        total=total,
        initial=initial,
        unit=unit,
        dynamic_ncols=True,
        smoothing=0.1,
        file=sys.stderr,
      )

  def update(
    self, count: int, values: Mapping[str, float] | None = None, added: int = 0
  ) -> None:
    """Advances by `count` units.

    Args:
      values: shown behind the counts, such as the loss.
      added: units to add to the total.
    """
    if not self._active:
      return
    self._done += count
    self._values.update(values or {})
    if self._total is not None:
      self._total += added
    now = time.monotonic()
    if self._bar is not None:
      self._bar.total = self._total
      self._bar.set_postfix_str(self._format_values(), refresh=False)
      self._bar.update(count)
    elif now >= self._next_line or self._done == self._total:
      self._next_line = now + EVERY
      self._marks.append((now, self._done))
      self.note(self._line())

  def note(self, message: str) -> None:
    """Prints one line, above the bar if there is one."""
    if self._active:
      tqdm.write(message, file=sys.stderr)

  def close(self) -> None:
    """Ends the display; further calls do nothing."""
    if self._bar is not None:
      self._bar.close()
    self._active = False

  def __exit__(self, *error: object) -> None:
    self.close()

  def _line(self) -> str:
    total = "" if self._total is None else f"/{self._total}"
    words = [self._label, f"{self._unit} {self._done}{total}", self._format_values()]
    (began, before), (now, done) = self._marks[0], self._marks[-1]
    if self._total is not None and done > before:
      rest = (now - began) / (done - before) * max(self._total - done, 0)
      words.append(f"ETA {_duration(rest)}")
    return " ".join(filter(None, words))

  def _format_values(self) -> str:
    return " ".join(f"{name} {_shown(value)}" for name, value in self._values.items())


def _shown(value: float) -> str:
  """Rounds to four digits, except whole numbers such as counts of tokens."""
  is_count = float(value).is_integer() and abs(value) < 1e15
  return f"{value:.0f}" if is_count else f"{value:.4g}"


def _duration(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}h{minutes:02d}m"
  return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"

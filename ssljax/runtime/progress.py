"""Shows progress on standard error: a bar on a terminal, or a line every 30 s."""

import contextlib
import io
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

EVERY = 30.0  # seconds between lines
LINE = "{desc} {unit} {n_fmt}/{total_fmt}{postfix}"  # a bar_format of tqdm


class _Lines(io.TextIOBase):
  """A file for tqdm that prints each state of the bar as a line."""

  def write(self, text: str) -> int:
    if text.strip():  # blank text only erases a bar
      print(text.strip(), file=sys.stderr)
    return len(text)


class Progress(contextlib.AbstractContextManager):
  """Counts finished units of work and shows the remaining time."""

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
      total: number of units in all; None if unknown.
      unit: name of one unit, such as "step".
      initial: units that were finished earlier.
      active: if False, every call does nothing (for processes other than the first).
      label: text at the start of the line.
      settle: seconds before the first line. The remaining time is estimated from the
        units after that line: earlier units may have waited for compilation, or come
        from a cache.
    """
    self._total, self._done, self._active = total, initial, active
    self._unit, self._label = unit, label
    self._values: dict[str, float] = {}
    self._first_line = time.monotonic() + settle
    self._bar: tqdm | None = None
    if active and sys.stderr.isatty():
      self._bar = self._make_bar(file=sys.stderr, dynamic_ncols=True)

  def _make_bar(self, **options) -> tqdm:
    return tqdm(
      desc=self._label,
      total=self._total,
      initial=self._done,
      unit=self._unit,
      smoothing=0.1,  # averages the rate over about 20 lines
      postfix=self._format_values(),
      **options,
    )

  def update(
    self, count: int, values: Mapping[str, float] | None = None, added: int = 0
  ) -> None:
    """Advances by `count` units.

    Args:
      values: numbers to show after the counts, such as the loss.
      added: units to add to the total.
    """
    if not self._active:
      return
    self._done += count
    self._values.update(values or {})
    if self._total is not None:
      self._total += added
    is_last = self._done == self._total
    if self._bar is not None:
      self._bar.total = self._total
      self._bar.set_postfix_str(self._format_values(), refresh=False)
      if not self._bar.update(count) and is_last:
        self._bar.refresh()
    elif is_last or time.monotonic() >= self._first_line:
      line = LINE if self._total is None or is_last else LINE + ", ETA {remaining}"
      self._bar = self._make_bar(
        file=_Lines(),
        bar_format=line,
        mininterval=EVERY,
        miniters=1,
        leave=False,
        position=0,  # no cursor movements, even if there are other bars
      )

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

  def _format_values(self) -> str:
    """Shows four digits, or all digits of a whole number such as a count of tokens."""
    return " ".join(
      f"{name} {value:.{15 if float(value).is_integer() else 4}g}"
      for name, value in self._values.items()
    )

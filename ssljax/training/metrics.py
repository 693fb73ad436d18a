"""What a run reports while it goes on: metrics.jsonl, TensorBoard and the console."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

EVERY = 30.0  # seconds between two lines where there is no terminal


class Writer:
  """metrics.jsonl and TensorBoard events in one place, each step and split once."""

  def __init__(self, workdir: Path, restored_step: int | None, active: bool):
    """Opens the files of a new run, or those of a run that goes on.

    Args:
      workdir: made if needed.
      restored_step: what was reported after it is dropped, since it comes again; None:
        a new run, and what an older one has left is dropped.
      active: False (processes other than 0) makes every call do nothing.
    """
    self._active = active
    if not active:
      return
    workdir = Path(workdir)
    boards = workdir / "tensorboard"
    boards.mkdir(parents=True, exist_ok=True)
    path = workdir / "metrics.jsonl"
    if restored_step is None:
      for old in boards.glob("events.out.tfevents.*"):
        old.unlink()
    _cut(path, restored_step)
    purge = None if restored_step is None else restored_step + 1
    self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    self._board = SummaryWriter(str(boards), purge_step=purge)

  def write(self, step: int, split: str, values: Mapping[str, float | None]) -> None:
    """Appends one line; None (undefined), NaN and infinities are null there."""
    if not self._active:
      return
    numbers = {name: _number(value) for name, value in values.items()}
    line = {"step": int(step), "split": split, **numbers}
    # One call for the whole line: a kill leaves it out or in.
    self._file.write(json.dumps(line, allow_nan=False) + "\n")
    self._file.flush()
    for name, value in numbers.items():
      if value is not None:  # tensorboardX warns of each NaN
        self._board.add_scalar(f"{split}/{name}", value, int(step))

  def close(self) -> None:
    if self._active:
      self._active = False
      self._file.close()
      self._board.close()


class Progress:
  """The console: a bar on a terminal, else a line now and then. All on stderr."""

  def __init__(self, total: int, start: int, active: bool):
    """Begins at step `start` of `total`.

    Args:
      total: steps of the run.
      start: steps done by an earlier process.
      active: False (processes other than 0) makes every call do nothing.
    """
    self._active = active
    self._total, self._done, self._loss = total, start, None
    self._first: tuple[int, float] | None = None  # (step, time) of the first update
    self._said = -math.inf
    self._bar = None
    if active and sys.stderr.isatty():
      self._bar = tqdm(
        total=total,
        initial=start,
        unit="step",
        dynamic_ncols=True,
        smoothing=0.1,
        file=sys.stderr,
      )

  def update(self, step: int, values: Mapping[str, float]) -> None:
    """`step` steps are done; `values` may hold "loss"."""
    if not self._active:
      return
    self._loss = values.get("loss", self._loss)
    if self._bar is not None:
      if self._loss is not None:
        self._bar.set_postfix(loss=f"{float(self._loss):.4g}", refresh=False)
      self._bar.update(step - self._done)
    self._done = step
    now = time.monotonic()
    if self._first is None:
      self._first = step, now  # the time before it went into compilation
    if self._bar is None and (now - self._said >= EVERY or step >= self._total):
      self._said = now
      self._print(self._line(now))

  def note(self, message: str) -> None:
    """Prints one line above the bar."""
    if not self._active:
      return
    if self._bar is not None:
      self._bar.write(message, file=sys.stderr)
    else:
      self._print(message)

  def close(self) -> None:
    if self._active and self._bar is not None:
      self._bar.close()
    self._active = False

  def _line(self, now: float) -> str:
    line = f"step {self._done}/{self._total}"
    if self._loss is not None:
      line += f" loss {float(self._loss):.4g}"
    first_step, first_time = self._first
    if self._done > first_step:
      each = (now - first_time) / (self._done - first_step)
      line += f" ETA {_duration(each * max(self._total - self._done, 0))}"
    return line

  def _print(self, line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _cut(path: Path, last: int | None) -> None:
  """Keeps the lines of `path` up to step `last` (None: none), atomically.

  But not that of the test: a run that goes on has not ended, and will write it.
  """
  kept = []
  if last is not None and path.exists():
    for line in path.read_bytes().splitlines():
      # A kill can tear the last line.
      try:
        row = json.loads(line)
        if row["step"] <= last and row["split"] != "test":
          kept.append(line + b"\n")
      except (ValueError, TypeError, KeyError):
        continue
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with open(temporary, "wb") as file:
      file.writelines(kept)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def _number(value) -> float | int | None:
  """A plain JSON number; None for what is none: undefined, NaN, infinite."""
  value = np.asarray(value).item()
  return value if value is not None and math.isfinite(value) else None


def _duration(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}h{minutes:02d}m"
  return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"

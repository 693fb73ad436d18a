"""Writes the metrics of a run to metrics.jsonl and to TensorBoard."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from ssljax.runtime.atomic import atomic_file


class Writer:
  """Writes each (step, split) once, however often the run is interrupted."""

  def __init__(self, workdir: Path, restored_step: int | None, active: bool):
    """Opens the files of a new run or of a resumed one.

    Args:
      workdir: created if missing.
      restored_step: metrics after this step are dropped, since the run computes them
        again; None for a new run, which drops everything.
      active: False (processes other than the first) makes every call do nothing.
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
    _drop_lines_after(path, restored_step)
    purge = None if restored_step is None else restored_step + 1
    self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    self._board = SummaryWriter(str(boards), purge_step=purge)

  def write(self, step: int, split: str, values: Mapping[str, float | None]) -> None:
    """Appends one line; None (undefined), NaN and infinities become null."""
    if not self._active:
      return
    numbers = {name: _to_json(value) for name, value in values.items()}
    line = {"step": int(step), "split": split, **numbers}
    # A single write, so that a kill can't leave half a line in the buffer.
    self._file.write(json.dumps(line, allow_nan=False) + "\n")
    self._file.flush()
    for name, value in numbers.items():
      if value is not None:  # tensorboardX logs a warning for each NaN
        self._board.add_scalar(f"{split}/{name}", value, int(step))

  def close(self) -> None:
    if self._active:
      self._active = False
      self._file.close()
      self._board.close()


def _drop_lines_after(path: Path, last_step: int | None) -> None:
  """Keeps the lines of `path` up to a step, or none.

  The line of the test split goes as well: a resumed run has not ended, and will write
  it again.
  """
  kept = []
  if last_step is not None and path.exists():
    for line in path.read_bytes().splitlines():
      try:
        values = json.loads(line)
        if values["step"] <= last_step and values["split"] != "test":
          kept.append(line + b"\n")
      except (ValueError, TypeError, KeyError):  # cut off by a kill
        continue
  with atomic_file(path) as file:
    file.writelines(kept)


def _to_json(value: Any) -> float | int | None:
  """A Python number; None if the value is undefined, NaN or infinite."""
  value = np.asarray(value).item()
  return value if value is not None and math.isfinite(value) else None

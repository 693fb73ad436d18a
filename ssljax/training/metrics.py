"""Writes the metrics of a run to metrics.jsonl and to TensorBoard."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from ssljax.runtime.atomic import atomic_file
from ssljax.runtime.json_files import plain


class Writer:
  """Writes each (step, split) once, however often the run is interrupted."""

  def __init__(self, workdir: Path, restored_step: int, active: bool):
    """Opens the files of a new run or of a resumed one.

    Args:
      workdir: created if missing.
      restored_step: metrics after this step are dropped, since the run computes them
        again; 0 for a new run.
      active: if False, every call does nothing. True only in the first process.
    """
    self._active = active
    if not active:
      return
    boards, path = Path(workdir, "tensorboard"), Path(workdir, "metrics.jsonl")
    boards.mkdir(parents=True, exist_ok=True)
    if not restored_step:
      for old in boards.glob("events.out.tfevents.*"):
        old.unlink()
    _drop_lines_after(path, restored_step)
    self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    purge = restored_step + 1 if restored_step else None
    self._board = SummaryWriter(str(boards), purge_step=purge)

  def write(self, step: int, split: str, values: Mapping[str, float | None]) -> None:
    """Appends one line; None (undefined), NaN and infinities become null."""
    if not self._active:
      return
    numbers = plain(dict(values))
    line = {"step": int(step), "split": split, **numbers}
    # One call of write, so that a kill can't leave half a line in the buffer.
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


def _drop_lines_after(path: Path, last_step: int) -> None:
  """Keeps the lines up to `last_step`, except the line of the test split.

  A resumed run writes the test split's line again, at its end.
  """
  kept = []
  for line in path.read_bytes().splitlines() if path.exists() else ():
    # If the run was killed, its last line may be incomplete.
    with contextlib.suppress(ValueError, TypeError, KeyError):
      values = json.loads(line)
      if values["step"] <= last_step and values["split"] != "test":
        kept.append(line + b"\n")
  with atomic_file(path) as file:
    file.writelines(kept)

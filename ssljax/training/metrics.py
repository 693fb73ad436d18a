"""Writes the metrics of a run to metrics.jsonl and to TensorBoard."""

import contextlib
import json
import struct
import time
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

from ssljax.runtime.atomic import atomic_file
from ssljax.runtime.json_files import plain
from ssljax.training import together


class Writer:
  """Writes each (step, split) once, however often the run is interrupted.

  All processes must make the same calls; the first one writes. All calls write at once,
  and raise OSError in all processes if the disk is full. (The SummaryWriter of
  tensorboardX isn't used: after a failed write, its queue fills up and blocks the run.)
  """

  def __init__(
    self,
    workdir: Path,
    restored_step: int,
    active: bool,
    also: Callable[[Mapping[str, Any]], None] = lambda line: None,
  ):
    """Opens the files of a new run or of a resumed one.

    Args:
      workdir: created if missing.
      restored_step: metrics after this step are dropped, since the run computes them
        again; 0 for a new run.
      active: whether this process writes: true only in the first process.
      also: gets each line that was written.
    """
    self._active, self._path = active, Path(workdir, "metrics.jsonl")
    self._also = also
    with together.errors_of_first(self._path):
      if active:
        self._open(Path(workdir, "tensorboard"), restored_step)

  def _open(self, boards: Path, restored_step: int) -> None:
    boards.mkdir(parents=True, exist_ok=True)
    if not restored_step:
      for old in boards.glob("events.out.tfevents.*"):
        old.unlink()
    _drop_lines_after(self._path, restored_step)
    # Without buffers, a kill can't leave half a line in one.
    self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
    name = f"events.out.tfevents.{time.time():.6f}"
    self._board = open(boards / name, "ab", buffering=0)  # noqa: SIM115
    start = Event(wall_time=time.time(), file_version="brain.Event:2")
    _append(self._board, _record(start))
    if restored_step:  # TensorBoard then hides what came after the restored step
      log = SessionLog(status=SessionLog.START)
      event = Event(wall_time=time.time(), step=restored_step + 1, session_log=log)
      _append(self._board, _record(event))

  def write(self, step: int, split: str, values: Mapping[str, float | None]) -> None:
    """Appends one line; None (undefined), NaN and infinities become null."""
    with together.errors_of_first(self._path):
      if self._active:
        self._write(step, split, values)

  def _write(self, step: int, split: str, values: Mapping[str, float | None]) -> None:
    step, now, numbers = int(step), time.time(), plain(dict(values))
    line = {"step": step, "split": split, **numbers}
    _append(self._file, json.dumps(line, allow_nan=False).encode() + b"\n")
    events = (
      Event(wall_time=now, step=step, summary=scalar(f"{split}/{name}", value))
      for name, value in numbers.items()
      if value is not None  # tensorboardX logs a warning for each NaN
    )
    _append(self._board, b"".join(map(_record, events)))
    self._also(line)

  def close(self) -> None:
    if self._active:
      self._active = False
      self._file.close()
      self._board.close()


def _append(file: FileIO, content: bytes) -> None:
  """Writes all of `content`, also if one call of `write` takes only a part of it."""
  while content:
    try:
      content = content[file.write(content) :]
    except OSError as error:
      error.filename = file.name  # `write` doesn't say which file it is
      raise


def _record(event: Event) -> bytes:
  """A TFRecord: u64 length and its checksum, the event and its checksum."""
  data = event.SerializeToString()
  length = struct.pack("<Q", len(data))
  checksums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
  return b"".join((length, next(checksums), data, next(checksums)))


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

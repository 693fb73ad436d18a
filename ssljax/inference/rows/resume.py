"""Finished parts of an output, in a folder beside it, with what was counted in them.

A part counts when the file of progress says so. That file is replaced as a whole, after
the part: whenever a process ends, parts and counts agree.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ssljax.errors import UserError
from ssljax.runtime import json_files

PROGRESS = "progress.json"


class Parts:
  """What is done of one output."""

  def __init__(self, target: Path, identity: dict[str, Any], threshold: float | None):
    """Goes on with what the folder holds of the same identity, else begins anew.

    Args:
      identity: of all that scores depend on.
      threshold: what rows are flagged at.

    Raises:
      UserError: rows of the same identity are there, flagged at another threshold.
        Their scores hold at any, so they are not to be lost for it.
    """
    self.folder, self._target = folder_of(target), target
    saved = _read(self.folder / PROGRESS)
    if saved.get("identity") != identity:
      shutil.rmtree(self.folder, ignore_errors=True)
      self.folder.mkdir(parents=True)
      saved = {"identity": identity, "threshold": threshold, "parts": 0, "counts": {}}
    elif saved["threshold"] != threshold:
      raise UserError(
        f"--threshold={threshold}: {self.folder} holds {saved['counts']['rows']} rows "
        f"flagged at {saved['threshold']}; give --threshold={saved['threshold']} to go "
        "on (the scores are the same at any), or remove the folder to begin anew"
      )
    self._saved = saved

  @property
  def counts(self) -> dict[str, int]:
    """Those that were given with the last part; {} before the first."""
    return self._saved["counts"]

  def add(self, write: Callable[[BinaryIO], None], counts: dict[str, int]) -> None:
    """A part, and the counts of all parts up to it."""
    done = self._saved["parts"]
    with whole(self._path(done)) as file:
      write(file)
    self._saved |= {"parts": done + 1, "counts": counts}
    json_files.write_json(self.folder / PROGRESS, self._saved)

  def join(self, merge: Callable[[Iterable[Path], BinaryIO], None]) -> None:
    """Makes the output of the parts; the folder goes when it is there."""
    joined = self.folder / "joined"
    with whole(joined) as file:
      merge(map(self._path, range(self._saved["parts"])), file)
    os.replace(joined, self._target)
    shutil.rmtree(self.folder)

  def _path(self, number: int) -> Path:
    return self.folder / f"{number:08d}"


def folder_of(target: Path) -> Path:
  return target.with_name(f".{target.name}.parts")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
  """A file that has its name when all of it is written, and not before."""
  fresh = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with open(fresh, "wb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(fresh, path)
  finally:
    fresh.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return {}

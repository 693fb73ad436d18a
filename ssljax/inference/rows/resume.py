"""Keeps finished parts of an output in a hidden folder, so that a killed run continues.

A part counts once progress.json says so. That file is replaced atomically after the
part is written, so parts and counts agree whenever the process is killed.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from ssljax.errors import UserError
from ssljax.runtime.atomic import atomic_file, flush
from ssljax.runtime.json_files import write_json

PROGRESS = "progress.json"


class OutputParts:
  """The finished parts of one output file."""

  def __init__(self, target: Path, identity: dict[str, Any], threshold: float | None):
    """Continues with the parts of the same identity, or starts without any.

    Args:
      target: the output file.
      identity: everything that scores depend on.
      threshold: scores from here on are flagged.

    Raises:
      UserError: there are parts of the same identity with another threshold. They are
        not deleted, since their scores are valid for any threshold.
    """
    self._folder, self._target = parts_folder(target), target
    saved = _read(self._folder / PROGRESS)
    if saved.get("identity") != identity:
      shutil.rmtree(self._folder, ignore_errors=True)
      self._folder.mkdir(parents=True)
      saved = {"identity": identity, "threshold": threshold, "parts": 0, "counts": {}}
    elif saved["threshold"] != threshold:
      raise UserError(
        f"--threshold={threshold}: {self._folder} holds {saved['counts']['rows']} rows "
        f"flagged at {saved['threshold']}; continue with "
        f"--threshold={saved['threshold']} (scores do not depend on it), or remove the "
        "folder to start again"
      )
    self._saved = saved

  @property
  def counts(self) -> dict[str, int]:
    """The counts given with the last part; {} before the first."""
    return self._saved["counts"]

  def add(self, write: Callable[[BinaryIO], None], counts: dict[str, int]) -> None:
    """Writes a part; `counts` cover all parts including this one."""
    number = self._saved["parts"]
    with atomic_file(self._path(number)) as file:
      write(file)
    self._saved |= {"parts": number + 1, "counts": counts}
    write_json(self._folder / PROGRESS, self._saved)

  def join(self, merge: Callable[[Iterable[Path], BinaryIO], None]) -> None:
    """Merges the parts into the output file and removes the folder."""
    joined = self._folder / "joined"  # in the folder: a kill leaves nothing beside it
    with open(joined, "wb") as file:
      merge(map(self._path, range(self._saved["parts"])), file)
    flush(joined)
    os.replace(joined, self._target)
    shutil.rmtree(self._folder)

  def _path(self, number: int) -> Path:
    return self._folder / f"{number:08d}"


def parts_folder(target: Path) -> Path:
  return target.with_name(f".{target.name}.parts")


def _read(path: Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return {}

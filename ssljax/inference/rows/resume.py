"""Keeps finished parts of an output in a hidden folder, in case a run is killed.

The folder's progress.json says how many parts are finished. It is replaced atomically
after a part is written, so the parts and counts agree whenever the process is killed.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.runtime.atomic import atomic_file
from ssljax.runtime.json_files import write_json

PROGRESS = "progress.json"


class OutputParts:
  """The finished parts of one output file."""

  def __init__(self, target: Path, identity: dict[str, Any], threshold: float | None):
    """Continues with existing parts if they have this identity; otherwise deletes them.

    Args:
      target: the output file.
      identity: everything that scores depend on.
      threshold: the lowest score that is flagged.

    Raises:
      UserError: existing parts have this identity but another threshold. They are not
        deleted, since their scores are valid for any threshold.
    """
    self._folder, self._target = parts_folder(target), target
    try:
      saved = json.loads((self._folder / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
      saved = {}
    if saved.get("identity") != identity:
      shutil.rmtree(self._folder, ignore_errors=True)
      self._folder.mkdir(parents=True)
      saved = {"identity": identity, "threshold": threshold, "parts": 0, "counts": {}}
    elif saved["threshold"] != threshold:
      raise UserError(
        f"--threshold={threshold}: {self._folder} holds {saved['counts']['rows']} rows "
        f"scored with threshold {saved['threshold']}; continue with "
        f"--threshold={saved['threshold']} (scores do not depend on it), or remove the "
        "folder to start again"
      )
    self._saved = saved

  @property
  def counts(self) -> dict[str, int]:
    """The counts that came with the last part; {} before the first part."""
    return self._saved["counts"]

  def add(self, write: Callable[[BinaryIO], None], counts: dict[str, int]) -> None:
    """Writes a part; `counts` cover all parts up to and including this one."""
    number = self._saved["parts"]
    with atomic_file(self._path(number)) as file:
      write(file)
    self._saved |= {"parts": number + 1, "counts": counts}
    write_json(self._folder / PROGRESS, self._saved)

  def join(self, schema: pa.Schema | None) -> None:
    """Joins the parts to the output file and removes the folder.

    Args:
      schema: the schema of Parquet parts; None if the parts are JSONL.
    """
    parts = map(self._path, range(self._saved["parts"]))
    joined = self._folder / "joined"  # inside the folder, in case of a kill
    with atomic_file(joined) as file:
      if schema is None:
        for part in parts:
          with open(part, "rb") as lines:
            shutil.copyfileobj(lines, file)
      else:
        with pq.ParquetWriter(file, schema, **files.PARQUET) as writer:
          for part in parts:
            writer.write_table(files.read_parquet(part, files.open_parquet(part)))
    joined.replace(self._target)
    shutil.rmtree(self._folder)

  def _path(self, number: int) -> Path:
    return self._folder / f"{number:08d}"


def parts_folder(target: Path) -> Path:
  return target.with_name(f".{target.name}.parts")

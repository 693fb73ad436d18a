"""Keeps finished parts of an output in a hidden folder, in case a run is killed.

The folder's progress.json says how many parts are finished. It is replaced atomically
after a part is written, so the parts and counts agree whenever the process is killed.
It also holds hashes of the parts and of itself. A folder of version 0.1.0 gets them
with its next part.
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.runtime.atomic import atomic_file
from ssljax.runtime.json_files import write_json

PROGRESS = "progress.json"
GROUP = 8192  # rows in a row group of Parquet output
JOINED = "joined.mark"  # tells parts that have become the output from unfinished ones


class OutputParts:
  """The finished parts of one output file."""

  def __init__(self, target: Path, identity: dict[str, Any], threshold: float | None):
    """Continues with existing parts if they have this identity and aren't damaged.

    Otherwise it deletes them.

    Args:
      target: the output file.
      identity: everything that scores depend on.
      threshold: the lowest score that is flagged.

    Raises:
      UserError: existing parts have this identity but another threshold. They are not
        deleted, since their scores are valid for any threshold.
    """
    self._folder, self._target = parts_folder(target), target
    saved = self._read_progress()
    if saved.get("identity") != identity:
      shutil.rmtree(self._folder, ignore_errors=True)
      self._folder.mkdir(parents=True)
      saved = {"identity": identity, "threshold": threshold, "parts": 0, "counts": {}}
      saved["sha256"] = []  # of each part
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
    self._saved["sha256"].append(_sha256(self._path(number)))
    write_json(self._folder / PROGRESS, {**self._saved, "seal": _seal(self._saved)})

  def join(self, schema: pa.Schema | None, head: bytes = b"") -> None:
    """Joins the parts to the output file and removes the folder.

    The output doesn't depend on which rows are in which part.

    Args:
      schema: the schema of Parquet parts; None if the parts are JSONL or CSV.
      head: what precedes the first part, such as the header of CSV.
    """
    parts = [*map(self._path, range(self._saved["parts"]))]
    joined = self._folder / "joined"  # inside the folder, in case of a kill
    with atomic_file(joined) as file:
      if schema is None:
        file.write(head)
        for part in parts:
          with open(part, "rb") as lines:
            shutil.copyfileobj(lines, file)
      else:
        with pq.ParquetWriter(file, schema, **files.PARQUET) as writer:
          for group in _groups(parts):
            writer.write_table(group, row_group_size=GROUP)
    (self._folder / JOINED).touch()
    joined.replace(self._target)
    _remove(self._folder, self._target)

  def _read_progress(self) -> dict[str, Any]:
    """The content of progress.json; {} if it or a part is missing or damaged."""
    try:
      saved = json.loads((self._folder / PROGRESS).read_text(encoding="utf-8"))
      seal = saved.pop("seal", None)
      parts = [_sha256(self._path(i)) for i in range(saved["parts"])]
      # Version 0.1.0 wrote no hashes.
      is_intact = (
        seal in (None, _seal(saved)) and saved.setdefault("sha256", parts) == parts
      )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
      return {}
    return saved if is_intact else {}

  def _path(self, number: int) -> Path:
    return self._folder / f"{number:08d}"


def _groups(parts: Sequence[Path]) -> Iterator[pa.Table]:
  """The rows of Parquet parts in tables of GROUP rows; the last may be smaller."""
  held: list[pa.Table] = []
  for part in parts:
    table = files.read_parquet(part, files.open_parquet(part))
    while sum(map(len, held)) + len(table) >= GROUP:
      needed = GROUP - sum(map(len, held))
      yield pa.concat_tables([*held, table.slice(0, needed)])
      held, table = [], table.slice(needed)
    held.append(table)
  if sum(map(len, held)):
    yield pa.concat_tables(held)


def remove_joined_parts(target: Path) -> None:
  """Removes the parts of a finished output, which a kill has left beside it.

  Parts that haven't been joined are kept: the output is then another file.
  """
  folder = parts_folder(target)
  if (folder / JOINED).exists() and not (folder / "joined").exists():
    _remove(folder, target)


def _remove(folder: Path, target: Path) -> None:
  # With a name that `runtime.atomic.sweep` knows, in case of a kill.
  temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
  folder.rename(temporary)
  shutil.rmtree(temporary)


def parts_folder(target: Path) -> Path:
  return target.with_name(f".{target.name}.parts")


def _sha256(path: Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(progress: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(progress).encode()).hexdigest()

"""Hashes the content of data files, and remembers the hashes.

A remembered hash holds as long as the file's size and times are the same.
"""

import contextlib
import hashlib
import json
import time
from pathlib import Path

from ssljax.assets import fetch
from ssljax.data.batches import sealed
from ssljax.errors import UserError
from ssljax.runtime.atomic import atomic_file

SETTLED = 2_000_000_000  # ns; clocks of file systems may be as coarse as that


def file_sha256(path: Path, verify: bool = False) -> str:
  """The SHA-256 of a file's content.

  Args:
    verify: read the content, even if the size and the times haven't changed.

  Raises:
    UserError: the file can't be read.
  """
  path = path.absolute()
  before = stamp(path)
  name = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:32]
  remembered = fetch.cache_folder() / "hashes" / f"{name}.json"
  try:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
      saved = json.loads(remembered.read_text(encoding="utf-8"))
      if saved["stamp"] == before and not verify:
        return saved["sha256"]
    began = time.time_ns()
    with path.open("rb") as file:
      digest = hashlib.file_digest(file, "sha256").hexdigest()
  except OSError as error:
    raise _unreadable(path, error) from error
  # A file that has just changed may change again without another time.
  if stamp(path) == before and began - max(before[1:]) > SETTLED:
    with contextlib.suppress(OSError), atomic_file(remembered) as file:
      file.write(json.dumps({"stamp": before, "sha256": digest}).encode())
  return digest


def stamp(path: Path) -> list[int]:
  """The size and the times of a file; see `sealed.stamp`.

  Raises:
    UserError: the file can't be read.
  """
  try:
    return sealed.stamp(path)
  except OSError as error:
    raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UserError:
  return UserError(f"{path}: cannot be read ({error.strerror}); check it")

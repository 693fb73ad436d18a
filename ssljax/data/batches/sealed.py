"""Arrays in a folder that are used only if they are what was written.

A file of digests, the seal, lies next to the arrays. It also holds each file's size and
times. While these are the same, the content isn't read again, unless asked for.
"""

import contextlib
import errno
import hashlib
import json
import mmap
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.errors import RunError
from ssljax.runtime import lock
from ssljax.runtime.atomic import OCCUPIED, atomic_file, atomic_folder

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
SEAL = "done"  # in caches of version 0.1.0, this file is empty


def read_arrays(
  folder: Path, names: Sequence[str], verify: bool = False
) -> list[np.ndarray] | None:
  """Maps arrays into memory; returns None if one is missing or isn't as written.

  The arguments and errors are those of `is_whole`.
  """
  if not is_whole(folder, names, verify):
    return None
  try:
    # NumPy takes longer to read from a memmap than from a plain array.
    return [np.asarray(np.load(folder / f"{n}.npy", mmap_mode="r")) for n in names]
  except Exception as error:  # NumPy raises whatever its parsers raise
    _check_exhausted(folder, error)
    return None


def is_whole(folder: Path, names: Sequence[str], verify: bool = False) -> bool:
  """Whether arrays are there as they were written, without mapping them.

  Args:
    verify: compare all content with the digests, not only that of files whose size or
      time changed.

  Raises:
    RunError: too many files are open, or memory has run out.
  """
  try:
    seal = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    any_changed = False
    for name in names:
      path = folder / f"{name}.npy"
      now = stamp(path)
      changed = seal[name]["stamp"] != now
      if (verify or changed) and seal[name]["sha256"] != _digest(path):
        return False
      seal[name]["stamp"] = now
      any_changed |= changed
  except (OSError, ValueError, TypeError, LookupError) as error:
    _check_exhausted(folder, error)
    return False
  if any_changed:  # a copy of the cache, for example
    with contextlib.suppress(OSError), atomic_file(folder / SEAL) as file:
      file.write(json.dumps(seal).encode())
  return True


def _check_exhausted(folder: Path, error: Exception) -> None:
  if getattr(error, "errno", None) in EXHAUSTED:
    raise RunError(
      f"{folder}: cannot be read ({error}); raise the limits of open files (ulimit -n) "
      "or of memory"
    ) from None


def drop_pages(array: np.ndarray) -> None:
  """Removes the pages of a mapped array from the memory of this process.

  They are read again when they are needed, mostly from the system's cache.
  """
  mapped: Any = array
  while isinstance(mapped, np.ndarray):
    mapped = mapped.base
  if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
    mapped.madvise(mmap.MADV_DONTNEED)


def write_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays and reads them back; replaces what was there.

  If another process has just written the folder, its arrays stay.

  Raises:
    OSError: they can't be written, or aren't read as written.
  """
  try:
    _write_arrays(folder, arrays)
  except OSError as error:
    if error.errno not in OCCUPIED or read_arrays(folder, [*arrays]) is None:
      raise


def _write_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
  with lock.shared(folder.parent), atomic_folder(folder) as temporary:
    seal: dict[str, Any] = {}
    for name, array in arrays.items():
      path = temporary / f"{name}.npy"
      try:
        np.save(path, array)
      except OSError as error:  # if a part was written, NumPy doesn't say why
        raise OSError(error.errno or errno.ENOSPC, str(error)) from error
      seal[name] = {"sha256": _digest(path), "stamp": stamp(path)}
      try:
        same = np.array_equal(np.load(path, mmap_mode="r"), array)
      except ValueError:  # too short: `np.save` doesn't notice each full disk
        same = False
      if not same:
        raise OSError(errno.EIO, f"{name}.npy is not read as it was written")
    (temporary / SEAL).write_text(json.dumps(seal), encoding="utf-8")
    if folder.exists():  # damaged; processes that read it keep their mapped files
      old = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
      folder.rename(old)
      shutil.rmtree(old, ignore_errors=True)


def was_sealed(folder: Path) -> bool:
  """Whether the folder was written with digests."""
  try:
    return (folder / SEAL).stat().st_size > 0
  except OSError:
    return False


def _digest(path: Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> list[int]:
  """The size and the times of a file; they change whenever the content does."""
  status = path.stat()
  # Programs can reset the time of modification, but not the time of change.
  return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]

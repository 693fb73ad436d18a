"""Writes files and folders that appear complete or not at all.

Each function yields a temporary path (or open file) in the folder of the target. If the
block succeeds, the content is flushed to disk and renamed to the target. If it raises,
the temporary is deleted and the target stays unchanged. A killed process can leave a
temporary behind, which `sweep` deletes. Its name starts with a dot, so that readers
ignore it. The rest of the name is random, so threads, processes and containers can
write the same target at once.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ssljax.errors import RunError, UserError

# A full or failing disk. (EFBIG: a limit on the size of files. EROFS: Linux makes a
# file system read-only after errors.)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
# The folder that a folder should replace is a file, or isn't empty.
OCCUPIED = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
_RANDOM = "[0-9a-f]{16}"  # in the names of temporaries


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
  """Opens a binary file that replaces `path` when the block ends."""
  with atomic_path(path) as temporary, open(temporary, "wb") as file:
    yield file


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
  """Yields a path where a library can write the file that replaces `path`.

  The path has the target's suffix, since some libraries choose the format by suffix.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  # Not from mkstemp: its file would have mode 0600, and would exist even if the block
  # wrote nothing.
  temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}{path.suffix}")
  try:
    yield temporary
    flush(temporary)
    os.replace(temporary, path)
  except OSError as error:
    if error.errno in FULL and error.filename is None:
      error.filename = str(path)  # `write` doesn't say which file it is
    raise
  finally:
    temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
  """Yields an empty folder that is renamed to `path` when the block ends.

  By then, `path` must not exist, or must be an empty folder.

  Raises:
    OSError: `path` exists, perhaps because another process was faster.
  """
  with scratch_folder(path) as temporary:
    yield temporary
    for written in (*temporary.rglob("*"), temporary):
      flush(written)
    os.replace(temporary, path)


@contextlib.contextmanager
def scratch_folder(path: str | Path) -> Iterator[Path]:
  """Yields an empty folder beside `path`, and deletes it when the block ends."""
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
  temporary.mkdir()  # not mkdtemp, whose folder would have mode 0700
  try:
    yield temporary
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def sweep(folder: Path, *targets: str) -> None:
  """Deletes the temporaries in a folder that killed processes have left.

  Only a process with a lock (`runtime.lock`) may do so: others would delete what is
  still being written.

  Args:
    targets: names of the files or folders whose temporaries are deleted. Without any,
      those of all targets are: only for a folder in which nobody else writes.
  """
  with contextlib.suppress(OSError):  # no folder, or one that can't be listed
    for path in list(folder.iterdir()):
      if (
        any(_is_left_of(path, target) for target in targets)
        if targets
        else re.fullmatch(rf"\..+\.{_RANDOM}(\.\w+)?|\.new-\w{{8}}", path.name)
      ):
        with contextlib.suppress(OSError):  # another user's, for example
          shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_left_of(path: Path, target: str) -> bool:
  """Whether a path is a temporary of a target that no process still writes."""
  stem, suffix = Path(target).stem, Path(target).suffix
  whole, start, end = map(re.escape, (target, stem, suffix))
  if re.fullmatch(rf"\.{start}\.{_RANDOM}{end}|\.{whole}\.{_RANDOM}", path.name):
    return True
  # The files of version 0.1.0 had suffixes. `.data.2025` beside `data` is the user's.
  old = path.name == f".new-{target}" or is_old(path.name, target)
  return bool(suffix) and old and path.is_file()


def is_old(name: str, target: str) -> bool:
  """Whether a name is `.TARGET.PID` or `.TARGET.PID.jsonl`, as version 0.1.0 wrote.

  The process must have ended.
  """
  old = re.fullmatch(rf"\.{re.escape(target)}\.(\d{{1,7}})(\.jsonl)?", name)
  return old is not None and not _is_running(int(old[1]))


def _is_running(process: int) -> bool:
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass
  return True


def cannot_write(what: str, error: OSError, way_out: str) -> UserError:
  """The error of a command that can't write; a RunError if the disk is full.

  Args:
    what: the file, with its flag: "--output=FILE".
    way_out: what the user can do, such as "name another file".
  """
  if error.errno not in FULL:
    return UserError(f"{what}: cannot be written ({error}); {way_out}")
  doing = "read or written" if error.errno == errno.EIO else "written"
  reason = os.strerror(error.errno)  # pyarrow's own text is longer
  return RunError(f"{what}: cannot be {doing} ({reason}); free some space or {way_out}")


def flush(path: Path) -> None:
  """Waits until the content of a file, or the list of files in a folder, is on disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)

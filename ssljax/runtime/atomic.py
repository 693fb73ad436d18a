"""Writes files and folders that appear complete or not at all.

Each function yields a temporary path (or open file) beside the target. When the block
ends normally, the content is flushed to disk and renamed to the target; when it raises,
the temporary is deleted and the target is left as it was. A killed process can leave a
temporary behind: its name starts with a dot, and readers ignore it.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
  """Opens a binary file that replaces `path` when the block ends.

  Raises:
    OSError: the file cannot be written.
  """
  with atomic_path(path) as temporary, open(temporary, "wb") as file:
    yield file


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
  """Yields a path for a library to write to; the file there replaces `path`.

  The temporary keeps the target's suffix, since some libraries choose the format by it.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
  try:
    yield temporary
    flush(temporary)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
  """Yields an empty folder that is renamed to `path` when the block ends.

  `path` must not exist by then, or be an empty folder.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  shutil.rmtree(temporary, ignore_errors=True)
  temporary.mkdir()
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def flush(path: Path) -> None:
  """Makes sure that the content of a file is on disk."""
  with open(path, "rb") as file:
    os.fsync(file.fileno())

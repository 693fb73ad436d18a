"""Writes files and folders that appear complete or not at all.

Each function yields a temporary path (or open file) in the folder of the target. If the
block succeeds, the content is flushed to disk and renamed to the target. If it raises,
the temporary is deleted and the target stays unchanged. A killed process can leave a
temporary behind. Its name starts with a dot, so that readers ignore it. The rest of the
name is random, so threads, processes and containers can write the same target at once.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


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
  finally:
    temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
  """Yields an empty folder that is renamed to `path` when the block ends.

  By then, `path` must not exist, or must be an empty folder.

  Raises:
    OSError: `path` exists, perhaps because another process was faster.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
  temporary.mkdir()  # not mkdtemp, whose folder would have mode 0700
  try:
    yield temporary
    for written in (*temporary.rglob("*"), temporary):
      flush(written)
    os.replace(temporary, path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def flush(path: Path) -> None:
  """Waits until the content of a file, or the list of files in a folder, is on disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)

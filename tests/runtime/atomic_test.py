"""Atomic writes: a target is complete, or as it was before."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ssljax.runtime import atomic
from ssljax.runtime.atomic import atomic_file, atomic_folder, atomic_path


def names(folder):
  return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_the_block_ends(tmp_path):
  path = tmp_path / "new" / "file.txt"
  with atomic_file(path) as file:
    file.write(b"one")
    assert not path.exists()
  with atomic_file(path) as file:
    file.write(b"two")
    file.flush()
    assert path.read_bytes() == b"one"
  assert path.read_bytes() == b"two"
  assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("writer", [atomic_file, atomic_path, atomic_folder])
def test_an_error_leaves_the_target_as_it_was(tmp_path, writer):
  target = tmp_path / "target"
  if writer is not atomic_folder:
    target.write_text("old")
  with pytest.raises(ValueError, match="stop"), writer(target):
    raise ValueError("stop")
  assert names(tmp_path) == ([] if writer is atomic_folder else ["target"])
  if writer is not atomic_folder:
    assert target.read_text() == "old"


def test_the_temporary_keeps_the_suffix(tmp_path):
  with atomic_path(tmp_path / "a.parquet") as temporary:
    assert temporary.suffix == ".parquet"
    temporary.write_text("x")
  assert (tmp_path / "a.parquet").read_text() == "x"


def test_a_folder_appears_when_the_block_ends(tmp_path):
  with atomic_folder(tmp_path / "folder") as temporary:
    (temporary / "a").write_text("a")
    assert not (tmp_path / "folder").exists()
  assert names(tmp_path / "folder") == ["a"]
  with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "folder"):
    pass


def test_the_files_of_a_folder_are_on_disk_before_it_appears(tmp_path, monkeypatch):
  flushed = []
  monkeypatch.setattr(atomic, "flush", lambda path: flushed.append(path.name))
  with atomic_folder(tmp_path / "folder") as temporary:
    (temporary / "deep").mkdir()
    (temporary / "deep" / "a").write_text("a")
    monkeypatch.setattr(os, "replace", lambda *paths: flushed.append("replace"))
  assert flushed == ["deep", "a", temporary.name, "replace"]


LETTERS = "abcdefgh"


def write_from_threads(write):
  """Calls write(letter, wait) in threads, and returns the error of each, or None.

  Before they write, they `wait` for all others to have a temporary.
  """
  barrier = threading.Barrier(len(LETTERS), timeout=30)

  def call(letter):
    try:
      write(letter, barrier.wait)
    except OSError as error:
      return error
    return None

  with ThreadPoolExecutor(len(LETTERS)) as pool:
    return list(pool.map(call, LETTERS))


def test_threads_can_write_the_same_file(tmp_path):
  path = tmp_path / "file"

  def write(letter, wait):
    with atomic_file(path) as file:
      wait()
      for _ in range(100):
        file.write(letter.encode())
        file.flush()

  assert write_from_threads(write) == [None] * len(LETTERS)
  content = path.read_text()
  assert content == content[0] * 100
  assert names(tmp_path) == ["file"]


def test_of_threads_that_write_the_same_folder_one_succeeds(tmp_path):
  def write(letter, wait):
    with atomic_folder(tmp_path / "folder") as temporary:
      wait()
      for k in range(3):
        (temporary / f"{letter}{k}").write_text(letter)

  errors = write_from_threads(write)
  assert errors.count(None) == 1
  letter = LETTERS[errors.index(None)]
  assert names(tmp_path / "folder") == [f"{letter}{k}" for k in range(3)]
  assert names(tmp_path) == ["folder"]


def test_permissions_follow_the_umask(tmp_path):
  before = os.umask(0o027)
  try:
    with atomic_file(tmp_path / "file"), atomic_folder(tmp_path / "folder"):
      pass
  finally:
    os.umask(before)
  modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder")]
  assert modes == [0o640, 0o750]


def test_a_block_that_writes_nothing_fails(tmp_path):
  with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file"):
    pass
  assert names(tmp_path) == []


def test_a_kill_leaves_the_old_file(tmp_path):
  path = tmp_path / "file"
  path.write_text("old")
  code = (
    "import os, signal\n"
    "from ssljax.runtime.atomic import atomic_file\n"
    f"with atomic_file({str(path)!r}) as file:\n"
    "  file.write(b'new' * 100_000); file.flush()\n"
    "  os.kill(os.getpid(), signal.SIGKILL)\n"
  )
  done = subprocess.run([sys.executable, "-c", code], env=os.environ)
  assert done.returncode == -signal.SIGKILL
  assert path.read_text() == "old"
  assert all(name.startswith(".") for name in names(tmp_path) if name != "file")

"""Arrays are read only if they are what was written."""

import contextlib
import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from ssljax.data.batches import sealed
from ssljax.errors import RunError
from ssljax.runtime.atomic import FULL
from tests.training.failed_save_test import small_files

ARRAYS = {"ids": np.arange(50, dtype=np.int32), "empty": np.zeros(0, bool)}


@pytest.fixture
def folder(tmp_path):
  sealed.write_arrays(tmp_path / "folder", ARRAYS)
  return tmp_path / "folder"


def read(folder, **options):
  return sealed.read_arrays(folder, tuple(ARRAYS), **options)


def flip(path, position=-1):
  content = bytearray(path.read_bytes())
  content[position] ^= 1
  path.write_bytes(content)


def test_arrays_are_read_as_written(folder):
  for array, expected in zip(read(folder, verify=True), ARRAYS.values(), strict=True):
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == expected.dtype
  assert sealed.was_sealed(folder)
  assert os.listdir(folder.parent) == ["folder"]


@pytest.mark.parametrize("position", [0, 20, 60, 200, -1])
def test_a_flipped_bit_is_found(folder, position):
  flip(folder / "ids.npy", position)
  assert read(folder) is None


@pytest.mark.parametrize("name", ["ids.npy", "done"])
@pytest.mark.parametrize("size", [0, 10, None])
def test_a_missing_or_shortened_file_is_found(folder, name, size):
  content = (folder / name).read_bytes()
  (folder / name).unlink()
  if size is not None:
    (folder / name).write_bytes(content[:size])
  assert read(folder) is None


def test_another_process_may_be_faster(folder, monkeypatch):
  made = (folder / "ids.npy").stat().st_ino
  folder.rename(folder.with_name("ready"))

  @contextlib.contextmanager
  def overtaken(target):
    with whole(target) as temporary:
      yield temporary
      target.with_name("ready").rename(target)

  whole = sealed.atomic_folder
  monkeypatch.setattr(sealed, "atomic_folder", overtaken)
  sealed.write_arrays(folder, ARRAYS)
  assert (folder / "ids.npy").stat().st_ino == made
  flip(folder / "ids.npy")
  folder.rename(folder.with_name("ready"))
  with pytest.raises(OSError, match="not empty"):  # what is there is damaged
    sealed.write_arrays(folder, ARRAYS)


def test_too_many_open_files_are_no_damage(folder):
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  highest = max(map(int, os.listdir("/proc/self/fd")))
  resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
  try:
    with pytest.raises(RunError, match=r"raise the limits of open files"):
      [read(folder) for _ in range(highest + 8)]
  finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_full_disk_is_named(tmp_path):
  large = {"ids": np.zeros(10_000)}
  with small_files(20_000), pytest.raises(OSError, match="written") as error:
    sealed.write_arrays(tmp_path / "folder", large)
  assert error.value.errno in FULL
  assert not [*tmp_path.glob("*")]


def test_the_arrays_of_version_0_1_0_have_no_digests(folder):
  (folder / "done").write_bytes(b"")
  assert read(folder) is None
  assert not sealed.was_sealed(folder)
  assert not sealed.was_sealed(folder.parent / "missing")


def test_content_is_read_only_if_size_or_time_changed(folder, monkeypatch):
  digested = []
  digest = sealed._digest
  monkeypatch.setattr(
    sealed, "_digest", lambda path: digested.append(1) or digest(path)
  )
  assert read(folder)
  assert digested == []
  assert read(folder, verify=True)
  assert len(digested) == 2
  copy = shutil.copytree(folder, folder.parent / "copy")  # new times
  assert read(copy)
  assert len(digested) == 4
  assert read(copy)  # the new times were noted
  assert len(digested) == 4


def test_damaged_arrays_are_replaced(folder):
  flip(folder / "ids.npy")
  sealed.write_arrays(folder, ARRAYS)
  assert read(folder, verify=True)
  assert os.listdir(folder.parent) == ["folder"]


def test_arrays_that_do_not_come_back_are_not_stored(tmp_path, monkeypatch):
  save = np.save
  monkeypatch.setattr(np, "save", lambda path, array: save(path, array + array))
  with pytest.raises(OSError, match=r"ids\.npy is not read as it was written"):
    sealed.write_arrays(tmp_path / "folder", ARRAYS)
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("size", [50, 200, 1000])
def test_a_full_disk_is_an_os_error(tmp_path, size):
  with (
    small_files(size),
    pytest.raises(OSError, match=r"as it was written|too large|req"),
  ):
    sealed.write_arrays(tmp_path / "arrays", {"ids": np.arange(200)})
  assert not list(tmp_path.glob("arrays/*"))


def test_seals_name_each_array(folder):
  assert json.loads((folder / "done").read_text()).keys() == ARRAYS.keys()


def test_dropped_pages_are_no_longer_in_memory_and_are_read_again(tmp_path):
  array = np.arange(1 << 22, dtype=np.int64)  # 32 MiB
  sealed.write_arrays(tmp_path / "folder", {"array": array})
  (mapped,) = sealed.read_arrays(tmp_path / "folder", ["array"])

  def resident():  # KiB of mapped files
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssFile:")[2].split()[0])

  total, before = int(mapped.sum()), resident()
  sealed.drop_pages(mapped[10:].view(np.uint64))
  assert resident() < before - 30_000
  assert int(mapped.sum()) == total == int(array.sum())
  sealed.drop_pages(array)  # isn't mapped


def test_arrays_are_checked_without_mapping_them(folder):
  assert sealed.is_whole(folder, tuple(ARRAYS), verify=True)
  assert not sealed.is_whole(folder, (*ARRAYS, "other"))
  flip(folder / "ids.npy")
  assert not sealed.is_whole(folder, tuple(ARRAYS))

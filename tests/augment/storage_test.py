"""New versions of a folder, and what other processes do to it meanwhile."""

import errno
import os
import shutil

import pytest

from ssljax.augment import storage
from ssljax.errors import UserError
from tests.augment.folders import hash_files, leftovers


def is_rewritten(path):
  return path.parts[0] == "train"


def write_version(data, meanwhile):
  """Rewrites the parts of train, and calls `meanwhile` before the swap."""
  with storage.new_version(data, is_rewritten) as new:
    for part in sorted((data / "train").iterdir()):
      (new / "train" / part.name).write_text("views")
    meanwhile()


def test_files_that_others_add_change_or_delete_meanwhile_are_kept_that_way(data):
  (data / "notes.txt").write_text("old")
  (data / "gone.txt").write_text("old")

  def meanwhile():
    (data / "page.html").write_text("new")
    (data / "deep" / "er").mkdir(parents=True)
    (data / "deep" / "er" / "file").write_text("new")
    (data / "gone.txt").unlink()
    (data / "notes.new").write_text("changed")
    os.replace(data / "notes.new", data / "notes.txt")
    shutil.rmtree(data / "test")

  write_version(data, meanwhile)
  assert (data / "page.html").read_text() == "new"
  assert (data / "deep" / "er" / "file").read_text() == "new"
  assert (data / "notes.txt").read_text() == "changed"
  assert not (data / "gone.txt").exists()
  assert not list((data / "test").glob("*"))
  assert {p.read_text() for p in (data / "train").iterdir()} == {"views"}
  assert leftovers(data) == set()


@pytest.mark.parametrize("atomic", [True, False])
def test_files_added_just_before_the_swap_are_kept(data, monkeypatch, atomic):
  (data / "notes.txt").write_text("old")
  exchange = storage._exchange

  def change_and_exchange(a, b):
    if (data / "late.txt").exists():
      return exchange(a, b)
    (data / "late.txt").write_text("new")
    (data / "run").mkdir()
    (data / "run" / "checkpoint").write_text("new")
    (data / "notes.txt").write_text("changed")
    return atomic and exchange(a, b)

  monkeypatch.setattr(storage, "_exchange", change_and_exchange)
  write_version(data, lambda: None)
  assert (data / "late.txt").read_text() == "new"
  assert (data / "run" / "checkpoint").read_text() == "new"
  assert (data / "notes.txt").read_text() == "changed"
  assert {p.read_text() for p in (data / "train").iterdir()} == {"views"}
  assert leftovers(data) == set()


@pytest.mark.parametrize("atomic", [True, False])
def test_rows_changed_just_before_the_swap_are_an_error_and_stay(
  data, monkeypatch, atomic
):
  exchange, part = storage._exchange, data / "train" / "part-0.parquet"

  def change_and_exchange(a, b):
    if not changed:
      with open(part, "a") as file:
        file.write("other rows")
      changed.update(hash_files(data))
    return atomic and exchange(a, b)

  changed = {}
  monkeypatch.setattr(storage, "_exchange", change_and_exchange)
  with pytest.raises(UserError, match=r"part-0.parquet changed"):
    write_version(data, lambda: None)
  assert hash_files(data) == changed
  assert leftovers(data) == set()


def test_permissions_are_kept(data):
  (data / "train").chmod(0o700)
  for part in (data / "train").iterdir():
    part.chmod(0o640)
  data.chmod(0o750)
  write_version(data, lambda: None)
  modes = {oct(p.stat().st_mode & 0o777) for p in (data / "train").iterdir()}
  assert modes == {"0o640"}
  assert [p.stat().st_mode & 0o777 for p in (data, data / "train")] == [0o750, 0o700]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_a_folder_that_cannot_be_replaced_is_refused_at_the_start(
  data, monkeypatch, number
):
  before, rename = hash_files(data), os.rename

  def refuse(source, target):
    if source == data:  # like a mount point, or a lower layer of an overlay
      raise OSError(number, os.strerror(number))
    rename(source, target)

  monkeypatch.setattr(os, "rename", refuse)
  with pytest.raises(UserError, match="cannot replace this folder"):
    write_version(data, lambda: pytest.fail("the block was entered"))
  assert hash_files(data) == before
  assert leftovers(data) == set()


def test_the_current_or_a_read_only_folder_is_refused(data, monkeypatch):
  monkeypatch.chdir(data / "train")
  with (
    pytest.raises(UserError, match="current directory is inside"),
    storage.locked(data),
  ):
    pass
  monkeypatch.chdir(data.parent)
  split = data / "train"
  monkeypatch.setattr(
    os, "access", lambda path, mode: path != split
  )  # root may write anywhere
  read_only = pytest.raises(UserError, match="train is not writable")
  with read_only, storage.locked(data):
    pass


@pytest.mark.parametrize("name", ["train/more.jsonl", "train.csv", "train.parquet"])
def test_other_files_with_rows_are_an_error(data, name):
  (data / name).write_text("{}")
  with pytest.raises(UserError, match=rf"{name} is not a Parquet file of .* first run"):
    storage.check_dataset_folder(data, ("train",))
  storage.check_dataset_folder(data, ("test",))


def test_hidden_files_are_not_data(data):
  parts = storage.check_dataset_folder(data, ("train",))
  (data / "train" / "._part-0.parquet").write_bytes(b"\0\5\x16\7")
  assert storage.check_dataset_folder(data, ("train",)) == parts


def test_only_leftovers_of_this_folder_are_deleted(data):
  others = [f".{name}.new-abcd1234" for name in ("data.new-x", "datax", "d[a]ta")]
  for name in [".data.new-abcd1234", *others, ".data.new-x"]:
    (data.parent / name).mkdir()
  with storage.locked(data):
    assert leftovers(data) == {*others, ".data.new-x", ".data.lock"}
  odd = data.rename(data.with_name("d[a]ta"))
  with storage.locked(odd):
    pass
  assert not (data.parent / others[2]).exists()


@pytest.mark.parametrize("how", ["replaced", "written to", "new", "gone"])
def test_rows_changed_meanwhile_are_an_error_and_stay(data, how):
  part = data / "train" / "part-0.parquet"

  def meanwhile():
    if how == "gone":
      part.unlink()
      return
    target = data / "train" / "part-9.parquet" if how == "new" else part
    if how == "replaced":
      part.unlink()
    with open(target, "a") as file:
      file.write("other rows")
    changed.update(hash_files(data))

  changed = {}
  with pytest.raises(UserError, match=r"train/part-\d.parquet changed"):
    write_version(data, meanwhile)
  assert changed.items() <= hash_files(data).items()
  assert part.exists() == (how != "gone")
  assert leftovers(data) == set()


def test_a_split_that_is_a_link_is_kept_and_cannot_be_rewritten(data, tmp_path):
  shutil.move(data / "test", tmp_path / "queries")  # a name that `leftovers` ignores
  (data / "test").symlink_to("../queries")
  write_version(data, lambda: None)
  assert (data / "test").readlink() == type(data)("../queries")
  assert [p.name for p in (data / "test").iterdir()] == ["part-0.parquet"]
  with pytest.raises(UserError, match="test is a link to another folder"):
    storage.check_dataset_folder(data, ("test",))


def test_a_file_must_be_prepared_first(data, tmp_path):
  path = tmp_path / "mine.jsonl"
  path.write_text('{"text": "bread"}\n')
  with pytest.raises(UserError, match=r"mine.jsonl: is a file; first run .*prepare"):
    storage.check_dataset_folder(path, ("train",))


def test_only_a_full_disk_is_reported_as_one(data):
  before = hash_files(data)

  def fail(number):
    raise OSError(number, os.strerror(number))

  with pytest.raises(UserError, match="free space"):
    write_version(data, lambda: fail(errno.ENOSPC))
  with pytest.raises(FileNotFoundError):  # for example in a user's function
    write_version(data, lambda: fail(errno.ENOENT))
  assert hash_files(data) == before
  assert leftovers(data) == set()

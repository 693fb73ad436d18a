"""The new folder beside the old one: what else happens to the old one meanwhile."""

import errno
import os
import shutil

import pytest

from ssljax.augment import storage
from ssljax.errors import UserError
from tests.augment.folders import beside, state


def own(path):
  return path.parts[0] == "train"


def renew(data, meanwhile):
  with storage.new_version(data, own) as fresh:
    for part in sorted((data / "train").iterdir()):
      (fresh / "train" / part.name).write_text("views")
    meanwhile()


def test_what_comes_changes_or_goes_meanwhile_is_as_its_owner_left_it(data):
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

  renew(data, meanwhile)
  assert (data / "page.html").read_text() == "new"
  assert (data / "deep" / "er" / "file").read_text() == "new"
  assert (data / "notes.txt").read_text() == "changed"
  assert not (data / "gone.txt").exists()
  assert not list((data / "test").glob("*"))
  assert {p.read_text() for p in (data / "train").iterdir()} == {"views"}
  assert beside(data) == set()


@pytest.mark.parametrize("swaps", [True, False])
def test_what_comes_in_the_last_moment_is_kept_too(data, monkeypatch, swaps):
  (data / "notes.txt").write_text("old")
  exchange = storage._exchange

  def late(one, other):
    if (data / "late.txt").exists():
      return exchange(one, other)
    (data / "late.txt").write_text("new")
    (data / "run").mkdir()
    (data / "run" / "checkpoint").write_text("new")
    (data / "notes.txt").write_text("changed")
    return swaps and exchange(one, other)

  monkeypatch.setattr(storage, "_exchange", late)
  renew(data, lambda: None)
  assert (data / "late.txt").read_text() == "new"
  assert (data / "run" / "checkpoint").read_text() == "new"
  assert (data / "notes.txt").read_text() == "changed"
  assert {p.read_text() for p in (data / "train").iterdir()} == {"views"}
  assert beside(data) == set()


@pytest.mark.parametrize("swaps", [True, False])
def test_rows_that_change_in_the_last_moment_stop_it_and_stay(data, monkeypatch, swaps):
  exchange, part = storage._exchange, data / "train" / "part-0.parquet"

  def late(one, other):
    if not changed:
      with open(part, "a") as file:
        file.write("other rows")
      changed.update(state(data))
    return swaps and exchange(one, other)

  changed = {}
  monkeypatch.setattr(storage, "_exchange", late)
  with pytest.raises(UserError, match=r"part-0.parquet was changed"):
    renew(data, lambda: None)
  assert state(data) == changed
  assert beside(data) == set()


def test_modes_stay(data):
  (data / "train").chmod(0o700)
  for part in (data / "train").iterdir():
    part.chmod(0o640)
  data.chmod(0o750)
  renew(data, lambda: None)
  modes = {oct(p.stat().st_mode & 0o777) for p in (data / "train").iterdir()}
  assert modes == {"0o640"}
  assert [p.stat().st_mode & 0o777 for p in (data, data / "train")] == [0o750, 0o700]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_a_folder_that_cannot_be_moved_is_refused_before_the_work(
  data, monkeypatch, number
):
  before, rename = state(data), os.rename

  def refuses(source, target):
    if source == data:  # as Linux says of a mount point, or of a lower layer
      raise OSError(number, os.strerror(number))
    rename(source, target)

  monkeypatch.setattr(os, "rename", refuses)
  with pytest.raises(UserError, match="cannot put a new folder in its place"):
    renew(data, lambda: pytest.fail("the work was begun"))
  assert state(data) == before
  assert beside(data) == set()


def test_a_folder_that_one_stands_in_or_may_not_write_is_refused(data, monkeypatch):
  monkeypatch.chdir(data / "train")
  with pytest.raises(UserError, match="go up first"), storage.locked(data):
    pass
  monkeypatch.chdir(data.parent)
  split = data / "train"
  monkeypatch.setattr(os, "access", lambda path, mode: path != split)  # root may all
  refused = pytest.raises(UserError, match="train is not to be written to")
  with refused, storage.locked(data):
    pass


@pytest.mark.parametrize("name", ["train/more.jsonl", "train.csv", "train.parquet"])
def test_rows_that_are_no_part_are_not_passed_over(data, name):
  (data / name).write_text("{}")
  with pytest.raises(UserError, match=rf"{name} is no Parquet part; first run"):
    storage.check_dataset_folder(data, ("train",))
  storage.check_dataset_folder(data, ("test",))


def test_only_its_own_leftovers_are_removed(data):
  others = [f".{name}.new-abcd1234" for name in ("data.new-x", "datax", "d[a]ta")]
  for name in [".data.new-abcd1234", *others, ".data.new-x"]:
    (data.parent / name).mkdir()
  with storage.locked(data):
    assert beside(data) == {*others, ".data.new-x"}
  odd = data.rename(data.with_name("d[a]ta"))
  with storage.locked(odd):
    pass
  assert not (data.parent / others[2]).exists()


@pytest.mark.parametrize("how", ["replaced", "written to", "new", "gone"])
def test_rows_that_change_meanwhile_stop_it_and_stay(data, how):
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
    changed.update(state(data))

  changed = {}
  with pytest.raises(UserError, match=r"train/part-\d.parquet was changed"):
    renew(data, meanwhile)
  assert changed.items() <= state(data).items()
  assert part.exists() == (how != "gone")
  assert beside(data) == set()


def test_a_split_that_is_a_link_stays_one_and_is_not_written_to(data, tmp_path):
  shutil.move(data / "test", tmp_path / "note")  # a name that `beside` knows
  (data / "test").symlink_to("../note")
  renew(data, lambda: None)
  assert (data / "test").readlink() == type(data)("../note")
  assert [p.name for p in (data / "test").iterdir()] == ["part-0.parquet"]
  with pytest.raises(UserError, match="test is a link to another folder"):
    storage.check_dataset_folder(data, ("test",))


def test_only_a_full_disk_is_said_to_be_one(data):
  before = state(data)

  def fails(number):
    def meanwhile():
      raise OSError(number, os.strerror(number))

    return meanwhile

  with pytest.raises(UserError, match="free space"):
    renew(data, fails(errno.ENOSPC))
  with pytest.raises(FileNotFoundError):  # of a function of the user's, say
    renew(data, fails(errno.ENOENT))
  assert state(data) == before
  assert beside(data) == set()

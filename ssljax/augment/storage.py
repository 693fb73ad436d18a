"""A dataset folder made anew beside the old one, and put in its place in one step.

Until `replace` the old folder is untouched; from then on the new one stands there. A
kill at any moment leaves one of the two, whole.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.data.records.schema import SCHEMA
from ssljax.errors import UserError

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def check(folder: Path, splits: tuple[str, ...]) -> dict[str, list[Path]]:
  """The Parquet parts of each split.

  Raises:
    UserError: not a folder that `python -m ssljax.data.prepare` writes, or one without
      a split that is asked for.
  """
  first = (
    "first run `python -m ssljax.data.prepare --source="
    f"{folder} --output=NEW`, then give NEW"
  )
  if not folder.is_dir():
    what = "is a file" if folder.exists() else "no such folder"
    raise UserError(
      f"--data={folder}: {what}; give a dataset folder"
      + (f": {first}" if folder.exists() else "")
    )
  found = {}
  for split in splits:
    if (folder / split).is_symlink():
      raise UserError(
        f"--data={folder}: {split} is a link to another folder, which would be written "
        "to; copy it"
      )
    parts = sorted((folder / split).glob("*.parquet"))
    others = _other_files(folder, split)
    if others:
      raise UserError(f"--data={folder}: {others[0]} is no Parquet part; {first}")
    if not parts and (folder / "dataset.json").exists():
      raise UserError(f"--data={folder}: no split {split!r} (--config.splits) in it")
    if not parts:
      raise UserError(f"--data={folder}: not a dataset folder; {first}")
    for part in parts:
      if not files.parquet(part).schema_arrow.equals(SCHEMA):
        raise UserError(f"{part}: not the columns of a dataset folder; {first}")
    found[split] = parts
  return found


def _other_files(folder: Path, split: str) -> list[str]:
  """Files that training would read as rows of the split, too."""
  inside = (folder / split).glob("*") if (folder / split).is_dir() else ()
  beside = (p for p in folder.glob(f"{split}.*") if p.is_file())
  found = [path for path in (*inside, *beside) if files.suffix(path) in files.SUFFIXES]
  return sorted(
    str(path.relative_to(folder))
    for path in found
    if path.parent == folder or files.suffix(path) != ".parquet"
  )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
  """Holds the folder for this process alone, and mends what a killed one has left.

  Raises:
    UserError: another process holds it; it is not to be written to, or not to be
      replaced, since this process stands in it.
  """
  if Path.cwd().is_relative_to(folder):
    raise UserError(
      f"--data={folder}: a new folder takes its place, and a shell inside would stay in"
      " the old one; go up first (cd ..) and name the folder"
    )
  try:
    lock = open(folder.parent / f".{folder.name}.lock", "a")  # noqa: SIM115
  except OSError as error:
    raise UserError(
      f"--data={folder}: {folder.parent} cannot be written ({error.strerror}), which "
      "the new folder needs; copy the data to a place that can"
    ) from None
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
        raise
      raise UserError(
        f"--data={folder}: another run is adding views to it; wait until it has ended"
      ) from None
    recover(folder)
    for path in (folder, *folder.glob("*/")):
      if not os.access(path, os.W_OK):
        raise UserError(f"--data={folder}: {path} is not to be written to; copy it")
    yield  # the lock goes with the file, also when the process is killed


def half_done(folder: Path) -> bool:
  """Whether a process was killed while the folder had no name."""
  return not folder.exists() and _old(folder).exists()


def recover(folder: Path) -> None:
  """Finishes or undoes what a killed process has left beside the folder."""
  old = _old(folder)
  if half_done(folder):
    os.rename(old, folder)
  scratch = re.compile(re.escape(_new(folder)) + r"[a-z0-9_]{8}")  # as mkdtemp names it
  for left in folder.parent.iterdir():
    if left == old or scratch.fullmatch(left.name):
      shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def renewed(folder: Path, own: Callable[[Path], bool]) -> Iterator[Path]:
  """A folder beside `folder` that takes its place when the block ends without error.

  It begins as a copy of all files but those for which `own(relative path)` is true,
  which the block writes. Nothing else in it may be written to: large files are links.
  What came into `folder` meanwhile, or changed there, is taken over.

  Raises:
    UserError: no space; a folder that cannot be replaced, before the block begins; or a
      file that is the block's own was changed meanwhile.
  """
  try:
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_new(folder)))
  except OSError as error:
    raise UserError(
      f"--data={folder}: {folder.parent} cannot be written ({error.strerror})"
    ) from None
  try:
    before = _link(folder, fresh, own)
    _check_movable(folder, fresh)
    yield fresh
    for path in _inside(fresh):  # it takes long, so that it comes first
      if path.lstat().st_nlink == 1:  # a link is a file that was there
        _sync(path)
    _same(folder, before, _link(folder, fresh, own))
    for path in [fresh, *_inside(fresh)]:
      known = folder / path.relative_to(fresh)
      if path.lstat().st_nlink == 1 or path.is_dir():
        _copy_mode(known, path)
      if path.is_dir():
        _sync(path)
    replace(fresh, folder)  # the old one is `fresh` now
    try:
      _same(folder, before, _take_over(fresh, folder, own))
    except UserError:
      replace(fresh, folder)
      raise
  except OSError as error:
    if error.errno not in FULL:
      raise
    raise UserError(
      f"--data={folder}: the new folder beside it cannot be written ({error}); free "
      "space and run again: the old one is whole, and results are kept"
    ) from error
  finally:
    shutil.rmtree(fresh, ignore_errors=True)


def replace(fresh: Path, folder: Path) -> None:
  """Puts each of two folders where the other stands."""
  if not _exchange(fresh, folder):
    old = _old(folder)
    os.rename(folder, old)  # a kill between here and there is what `recover` mends
    os.rename(fresh, folder)
    os.rename(old, fresh)
  _sync(folder.parent)


def tables(path: Path, rows: int) -> Iterator[pa.Table]:
  """A Parquet file by tables of at most `rows` rows."""
  # Without the buffer a whole column of a row group would be held at once.
  with pq.ParquetFile(path, buffer_size=1 << 20) as file:
    for batch in file.iter_batches(rows, use_threads=False):
      yield pa.Table.from_batches([batch], file.schema_arrow)


def rewrite(source: Path, target: Path, rows: int, change) -> None:
  """Writes `source` to `target` by tables of at most `rows` rows, each changed.

  Args:
    change: from an iterator of tables to an iterator of as many tables, in order.
  """
  with (
    contextlib.closing(tables(source, rows)) as found,
    pq.ParquetWriter(target, pq.read_schema(source), compression="zstd") as writer,
  ):
    for table in change(found):
      writer.write_table(table, row_group_size=rows)


def _exchange(one: Path, other: Path) -> bool:
  """Swaps two folders in one step; False where the system cannot."""
  try:
    rename = ctypes.CDLL(None, use_errno=True).renameat2
  except (AttributeError, OSError, TypeError):
    return False
  done = rename(
    AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE
  )
  if done == 0:
    return True
  number = ctypes.get_errno()
  if number in (errno.EINVAL, errno.ENOSYS, errno.EPERM):  # not this file system
    return False
  raise OSError(number, os.strerror(number), str(other))


def _check_movable(folder: Path, fresh: Path) -> None:
  """Raises UserError for a folder that the system will not move: a mount point, or one
  of a lower layer of an overlay."""
  trial = fresh / "trial"
  (trial / "full").mkdir(parents=True)
  try:
    os.rename(folder, trial)  # never done, since `trial` is not empty
  except OSError as error:
    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
      raise UserError(
        f"--data={folder}: the system cannot put a new folder in its place "
        f"({error.strerror}), as of a mount point or a folder of a container's image; "
        "give a copy of it that lies in a folder of its own"
      ) from None
  shutil.rmtree(trial)


def _same(folder: Path, before: dict, after: dict) -> None:
  """Raises UserError where rows have changed."""
  for path in before.keys() | after.keys():
    if before.get(path) != after.get(path):
      raise UserError(
        f"{folder / path} was changed while views were made; run the same command "
        "again: nothing is lost"
      )


def _take_over(old: Path, folder: Path, own: Callable[[Path], bool]) -> dict:
  """Moves what came into `old` in the last moment; returns as `_link`."""
  owned = {}
  for source in _inside(old):
    inside = source.relative_to(old)
    target, facts = folder / inside, source.lstat()
    if source.is_dir() and not source.is_symlink():
      target.mkdir(exist_ok=True)
    elif own(inside):
      owned[inside] = _facts(source)
    elif not os.path.lexists(target) or (
      (facts.st_size, facts.st_mtime_ns)
      != (target.lstat().st_size, target.lstat().st_mtime_ns)
    ):
      os.replace(source, target)
  return owned


def _facts(path: Path) -> tuple[int, ...]:
  """What tells a change of a file."""
  facts = path.stat()
  return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _inside(folder: Path) -> Iterator[Path]:
  """All files and folders in it, a folder before what it holds."""
  for place, folders, names in os.walk(folder):
    yield from (Path(place, name) for name in (*folders, *names))


def _copy_mode(source: Path, target: Path) -> None:
  if source.exists() and not target.is_symlink():
    shutil.copymode(source, target)


def _link(
  folder: Path, fresh: Path, own: Callable[[Path], bool]
) -> dict[Path, tuple[int, ...]]:
  """Makes `fresh` hold the files of `folder` that are not `own`, and only these.

  Returns:
    What tells a change, by relative path, of those that are `own`.
  """
  owned = {}
  for place, folders, names in os.walk(fresh):
    for name in names + [each for each in folders if Path(place, each).is_symlink()]:
      path = Path(place, name)
      if not own(path.relative_to(fresh)):
        path.unlink()
  for place, folders, names in os.walk(folder):
    inside = Path(place).relative_to(folder)
    (fresh / inside).mkdir(exist_ok=True)
    links = [each for each in folders if Path(place, each).is_symlink()]
    for name in names + links:
      source, target = Path(place, name), fresh / inside / name
      if own(inside / name):
        owned[inside / name] = _facts(source)
        continue
      try:
        os.link(source, target, follow_symlinks=False)
      except OSError:  # some file systems have no links
        shutil.copy2(source, target, follow_symlinks=False)
  return owned


def _sync(path: Path) -> None:
  if path.is_symlink():
    return
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


def _new(folder: Path) -> str:
  return f".{folder.name}.new-"


def _old(folder: Path) -> Path:
  return folder.parent / f".{folder.name}.old"

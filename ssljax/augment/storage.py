"""Writes a new version of a dataset folder, and swaps it with the old one at once.

`runtime.atomic` isn't enough here: the target exists, keeps most of its files, and may
change while the new version is written. The old folder stays untouched until `swap`;
after a kill at any moment, one of the two versions is complete.
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

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # constants of Linux
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
# Inode, size and modification time, by relative path: they tell whether a file changed.
Stats = dict[Path, tuple[int, ...]]


def check_dataset_folder(
  folder: Path, splits: tuple[str, ...]
) -> dict[str, list[Path]]:
  """Returns the Parquet files of each split.

  Raises:
    UserError: not a folder written by `python -m ssljax.data.prepare`, or one without
      one of the splits.
  """
  prepare = (
    f"first run `python -m ssljax.data.prepare --source={folder} --output=NEW`, then "
    "use --data=NEW"
  )
  if not folder.is_dir():
    if folder.exists():
      raise UserError(f"--data={folder} is a file, not a dataset folder: {prepare}")
    raise UserError(f"--data={folder}: no such folder; name a dataset folder")
  result = {}
  for split in splits:
    if (folder / split).is_symlink():
      raise UserError(
        f"--data={folder}: {split} is a link to another folder, which this would "
        "modify; replace it by a copy"
      )
    parts = sorted((folder / split).glob("*.parquet"))
    others = _other_files(folder, split)
    if others:
      raise UserError(
        f"--data={folder}: {others[0]} is not a Parquet file of the split; {prepare}"
      )
    if not parts and (folder / "dataset.json").exists():
      raise UserError(
        f"--data={folder}: it has no split {split!r}; change --config.splits"
      )
    if not parts:
      raise UserError(f"--data={folder}: not a dataset folder; {prepare}")
    for part in parts:
      if not files.open_parquet(part).schema_arrow.equals(SCHEMA):
        raise UserError(f"{part}: its columns aren't those of a dataset; {prepare}")
    result[split] = parts
  return result


def _other_files(folder: Path, split: str) -> list[str]:
  """Lists other files that training would also read as rows of the split."""
  inside = (folder / split).glob("*") if (folder / split).is_dir() else ()
  beside = (p for p in folder.glob(f"{split}.*") if p.is_file())
  paths = [path for path in (*inside, *beside) if files.suffix(path) in files.SUFFIXES]
  return sorted(
    str(path.relative_to(folder))
    for path in paths
    if path.parent == folder or files.suffix(path) != ".parquet"
  )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
  """Locks the folder for this process, and cleans up after a killed one.

  Raises:
    UserError: another process has the lock, the folder isn't writable, or this
      process's working directory is inside it.
  """
  if Path.cwd().is_relative_to(folder):
    raise UserError(
      f"--data={folder}: the current directory is inside this folder, which will be "
      "replaced; change to its parent (cd ..) and name the folder"
    )
  try:
    lock = open(folder.parent / f".{folder.name}.lock", "a")  # noqa: SIM115
  except OSError as error:
    raise UserError(
      f"--data={folder}: cannot write to {folder.parent} ({error.strerror}), where the "
      "new version of the folder goes; copy the data to a writable place"
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
        raise UserError(
          f"--data={folder}: {path} is not writable; change its permissions or copy "
          "the folder"
        )
    yield  # closing the file releases the lock, also when the process is killed


def was_swap_interrupted(folder: Path) -> bool:
  """Whether a process was killed between the renames of a swap."""
  return not folder.exists() and _old(folder).exists()


def recover(folder: Path) -> None:
  """Undoes an interrupted swap, and deletes what killed processes left behind."""
  old = _old(folder)
  if was_swap_interrupted(folder):
    os.rename(old, folder)
  leftover = re.compile(re.escape(_prefix(folder)) + r"[a-z0-9_]{8}")  # by mkdtemp
  for path in folder.parent.iterdir():
    if path == old or leftover.fullmatch(path.name):
      shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def new_version(folder: Path, is_rewritten: Callable[[Path], bool]) -> Iterator[Path]:
  """Yields a folder that replaces `folder` when the block ends without an error.

  At first it holds all files of `folder` except the rewritten ones, which the block
  writes. The block must not write to any other file in it, since large files are hard
  links. Other files that appear or change in `folder` meanwhile are taken over.

  Args:
    is_rewritten: tells by the relative path whether the block writes a file.

  Raises:
    UserError: a folder that can't be replaced (before the block begins), no space, or
      a rewritten file that something else has changed meanwhile.
  """
  try:
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_prefix(folder)))
  except OSError as error:
    raise UserError(
      f"--data={folder}: cannot write to {folder.parent} ({error.strerror})"
    ) from None
  try:
    before = _link_files(folder, new, is_rewritten)
    _check_movable(folder, new)
    yield new
    for path in _walk(new):  # first, because it takes long
      if path.lstat().st_nlink == 1:  # not a link to a file of `folder`
        _sync(path)
    _check_unchanged(folder, before, _link_files(folder, new, is_rewritten))
    for path in [new, *_walk(new)]:
      if path.lstat().st_nlink == 1 or path.is_dir():
        _copy_mode(folder / path.relative_to(new), path)
      if path.is_dir():
        _sync(path)
    swap(new, folder)  # from here on `new` holds the old version
    try:
      _check_unchanged(folder, before, _take_over(new, folder, is_rewritten))
    except UserError:
      swap(new, folder)
      raise
  except OSError as error:
    if error.errno not in FULL:
      raise
    raise UserError(
      f"--data={folder}: cannot write its new version ({error}); free space and run "
      "again: the folder is unchanged, and results are cached"
    ) from error
  finally:
    shutil.rmtree(new, ignore_errors=True)


def swap(new: Path, folder: Path) -> None:
  """Exchanges the names of two folders."""
  if not _exchange(new, folder):
    old = _old(folder)
    os.rename(folder, old)  # `recover` undoes this after a kill before the next rename
    os.rename(new, folder)
    os.rename(old, new)
  _sync(folder.parent)


def read_tables(path: Path, rows: int) -> Iterator[pa.Table]:
  """Yields a Parquet file as tables of at most `rows` rows."""
  # Without the buffer, a whole column of a row group would be in memory at once.
  with pq.ParquetFile(path, buffer_size=1 << 20) as file:
    for batch in file.iter_batches(rows, use_threads=False):
      yield pa.Table.from_batches([batch], file.schema_arrow)


def rewrite_parquet(
  source: Path,
  target: Path,
  rows: int,
  change: Callable[[Iterator[pa.Table]], Iterator[pa.Table]],
) -> None:
  """Writes `target`: the tables of `source`, of at most `rows` rows, after `change`."""
  with (
    contextlib.closing(read_tables(source, rows)) as tables,
    pq.ParquetWriter(target, pq.read_schema(source), compression="zstd") as writer,
  ):
    for table in change(tables):
      writer.write_table(table, row_group_size=rows)


def _exchange(a: Path, b: Path) -> bool:
  """Swaps two folders in one step; returns False if the system can't."""
  try:
    rename = ctypes.CDLL(None, use_errno=True).renameat2
  except (AttributeError, OSError, TypeError):
    return False
  status = rename(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE)
  if status == 0:
    return True
  number = ctypes.get_errno()
  if number in (errno.EINVAL, errno.ENOSYS, errno.EPERM):  # not on this file system
    return False
  raise OSError(number, os.strerror(number), str(b))


def _check_movable(folder: Path, new: Path) -> None:
  """Raises UserError if the folder can't be renamed: a mount point, or a folder of a
  lower layer of an overlay file system."""
  trial = new / "trial"
  (trial / "full").mkdir(parents=True)
  try:
    os.rename(folder, trial)  # always fails, because `trial` isn't empty
  except OSError as error:
    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
      raise UserError(
        f"--data={folder}: the system cannot replace this folder ({error.strerror}); "
        "it may be a mount point or belong to a container image. Copy it into another "
        "folder and use the copy"
      ) from None
  shutil.rmtree(trial)


def _check_unchanged(folder: Path, before: Stats, after: Stats) -> None:
  for path in before.keys() | after.keys():
    if before.get(path) != after.get(path):
      raise UserError(
        f"{folder / path} changed while views were made; run the same command again: "
        "results are cached"
      )


def _take_over(old: Path, folder: Path, is_rewritten: Callable[[Path], bool]) -> Stats:
  """Moves files that appeared or changed in `old` just before the swap to `folder`.

  Returns:
    As `_link_files`.
  """
  rewritten = {}
  for source in _walk(old):
    relative = source.relative_to(old)
    target, status = folder / relative, source.lstat()
    if source.is_dir() and not source.is_symlink():
      target.mkdir(exist_ok=True)
    elif is_rewritten(relative):
      rewritten[relative] = _stats(source)
    elif not os.path.lexists(target) or (
      (status.st_size, status.st_mtime_ns)
      != (target.lstat().st_size, target.lstat().st_mtime_ns)
    ):
      os.replace(source, target)
  return rewritten


def _stats(path: Path) -> tuple[int, ...]:
  status = path.stat()
  return status.st_ino, status.st_size, status.st_mtime_ns


def _walk(folder: Path) -> Iterator[Path]:
  """Yields all files and folders inside, a folder before its contents."""
  for root, folders, names in os.walk(folder):
    yield from (Path(root, name) for name in (*folders, *names))


def _copy_mode(source: Path, target: Path) -> None:
  if source.exists() and not target.is_symlink():
    shutil.copymode(source, target)


def _link_files(folder: Path, new: Path, is_rewritten: Callable[[Path], bool]) -> Stats:
  """Makes `new` hold exactly the files of `folder` that aren't rewritten, as links.

  Returns:
    The stats of the rewritten files of `folder`.
  """
  rewritten = {}
  for root, folders, names in os.walk(new):
    for name in names + [name for name in folders if Path(root, name).is_symlink()]:
      path = Path(root, name)
      if not is_rewritten(path.relative_to(new)):
        path.unlink()
  for root, folders, names in os.walk(folder):
    relative = Path(root).relative_to(folder)
    (new / relative).mkdir(exist_ok=True)
    links = [name for name in folders if Path(root, name).is_symlink()]
    for name in names + links:
      source, target = Path(root, name), new / relative / name
      if is_rewritten(relative / name):
        rewritten[relative / name] = _stats(source)
        continue
      try:
        os.link(source, target, follow_symlinks=False)
      except OSError:  # some file systems have no hard links
        shutil.copy2(source, target, follow_symlinks=False)
  return rewritten


def _sync(path: Path) -> None:
  """As `runtime.atomic.flush`, but also for folders."""
  if path.is_symlink():
    return
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _prefix(folder: Path) -> str:
  return f".{folder.name}.new-"


def _old(folder: Path) -> Path:
  return folder.parent / f".{folder.name}.old"

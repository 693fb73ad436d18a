"""Writes a new version of a dataset folder, then swaps it with the old version.

`runtime.atomic` isn't enough here: the folder already exists, keeps most of its files,
and may change while the new version is written. The old version stays untouched until
`swap`. Even if the process is killed, one of the two versions is complete.
"""

import contextlib
import ctypes
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from ssljax.data.records import files
from ssljax.data.records.schema import SCHEMA
from ssljax.errors import RunError, UserError
from ssljax.runtime import lock
from ssljax.runtime.atomic import FULL, flush

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # constants of Linux
# Inode, size and modification time by relative path. They show if a file has changed.
Stats = dict[Path, tuple[int, ...]]


def check_dataset_folder(
  folder: Path, splits: tuple[str, ...]
) -> dict[str, list[Path]]:
  """Returns the Parquet files of each split.

  Raises:
    UserError: the folder wasn't written by `python -m ssljax.data.prepare`, or lacks
      one of the splits.
  """
  prepare = (
    f"first run `python -m ssljax.data.prepare --source={folder} --output=NEW`, then "
    "use --data=NEW"
  )
  if not folder.is_dir():
    problem = f"is a file; {prepare}" if folder.exists() else "no such folder"
    raise UserError(f"--data={folder}: {problem}")
  result = {}
  for split in splits:
    if (folder / split).is_symlink():
      raise UserError(
        f"--data={folder}: {split} is a link to another folder, which this command "
        "would modify; replace the link with a copy"
      )
    # Training would read all of these files as rows of the split.
    paths = {
      *folder.glob(f"{split}/[!.]*"),  # hidden files aren't data
      *filter(Path.is_file, folder.glob(f"{split}.*")),
    }
    parts = sorted((folder / split).glob("[!.]*.parquet"))
    if others := sorted(filter(files.suffix, paths.difference(parts))):
      raise UserError(
        f"--data={folder}: {others[0].relative_to(folder)} is not a Parquet file of "
        f"the split; {prepare}"
      )
    if not parts:
      raise UserError(
        f"--data={folder}: it has no Parquet file of the split {split!r}; change "
        f"--config.splits, or {prepare}"
      )
    for part in parts:
      if not files.open_parquet(part).schema_arrow.equals(SCHEMA):
        raise UserError(f"{part}: its columns aren't those of a dataset; {prepare}")
    result[split] = parts
  return result


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
  """Locks the folder for this process, and cleans up after a killed process.

  Raises:
    UserError: another process has the lock, the folder isn't writable, or the current
      directory is inside it.
  """
  if Path.cwd().is_relative_to(folder):
    raise UserError(
      f"--data={folder}: the current directory is inside this folder, which will be "
      "replaced; change to its parent (cd ..) and give the folder's name as --data"
    )
  for path in (folder.parent, folder, *folder.glob("*/")):
    if path.exists() and not os.access(path, os.W_OK):
      raise UserError(
        f"--data={folder}: {path} is not writable; change its permissions or copy the "
        "folder to a writable place"
      )
  with lock.exclusive(folder, "--data"):
    if was_swap_interrupted(folder):
      os.rename(_beside(folder, "old"), folder)
    # Delete what killed processes left. mkdtemp adds eight characters to the prefix.
    leftover = re.compile(re.escape(_beside(folder, "new-").name) + "[a-z0-9_]{8}")
    for path in folder.parent.iterdir():
      if path == _beside(folder, "old") or leftover.fullmatch(path.name):
        shutil.rmtree(path, ignore_errors=True)
    yield


def was_swap_interrupted(folder: Path) -> bool:
  """Whether a process was killed between the renames of `swap`."""
  return not folder.exists() and _beside(folder, "old").exists()


@contextlib.contextmanager
def new_version(folder: Path, is_rewritten: Callable[[Path], bool]) -> Iterator[Path]:
  """Yields a new folder, which replaces `folder` if the block ends without an error.

  At first the new folder holds all files of `folder` except those that the block
  writes. The block must not write to other files, because they are hard links. If
  another process adds or changes such files in `folder` meanwhile, they are kept.

  Args:
    is_rewritten: takes the relative path of a file; returns whether the block writes
      the file.

  Raises:
    UserError: `folder` can't be replaced (raised before the block begins), the disk is
      full, or another process has changed a file that the block writes.
  """
  options = {"prefix": _beside(folder, "new-").name, "dir": folder.parent}
  try:
    with tempfile.TemporaryDirectory(**options, ignore_cleanup_errors=True) as name:
      new = Path(name)
      before = _link_files(folder, new, is_rewritten)
      _check_movable(folder, new)
      yield new
      # Flushing takes long, so it comes before the last comparison with `folder`.
      for path in _walk(new):
        if not path.is_symlink() and path.stat().st_nlink == 1:  # not a hard link
          flush(path)
      _check_unchanged(folder, before, _link_files(folder, new, is_rewritten))
      for path in [new, *_walk(new)]:
        source = folder / path.relative_to(new)
        if not path.is_symlink() and (path.is_dir() or path.stat().st_nlink == 1):
          if source.exists():
            shutil.copymode(source, path)
          flush(path)
      swap(new, folder)  # from here on `new` holds the old version
      try:
        _check_unchanged(folder, before, _take_over(new, folder, is_rewritten))
      except UserError:
        swap(new, folder)
        raise
  except OSError as error:
    if error.errno not in FULL:
      raise
    raise RunError(
      f"--data={folder}: cannot write its new version ({error}); free space and run "
      "again: the folder is unchanged, and results are cached"
    ) from error


def swap(new: Path, folder: Path) -> None:
  """Exchanges the names of two folders."""
  if not _exchange(new, folder):
    old = _beside(folder, "old")
    os.rename(folder, old)  # after a kill here, `locked` undoes this
    os.rename(new, folder)
    os.rename(old, new)
  flush(folder.parent)


def read_tables(
  path: Path, rows: int, columns: list[str] | None = None
) -> Iterator[pa.Table]:
  """Yields a Parquet file as tables of at most `rows` rows.

  Raises:
    UserError: the file is damaged; see `files.read_batches`.
  """
  options = {"columns": columns, "use_threads": False}
  with files.open_parquet(path) as file:
    for batch in files.read_batches(path, file, rows, **options):
      yield pa.Table.from_batches([batch])


def _exchange(a: Path, b: Path) -> bool:
  """Swaps two folders in one step; returns False if the system doesn't support it."""
  rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
  if rename is None:
    return False
  status = rename(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE)
  number = ctypes.get_errno()
  if status and number not in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
    raise OSError(number, os.strerror(number), str(b))
  return status == 0


def _check_movable(folder: Path, new: Path) -> None:
  """Raises UserError if `folder` is a mount point or belongs to a container image."""
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
  changed = {path for path, _ in before.items() ^ after.items()}
  if changed:
    raise UserError(
      f"{folder / min(changed)} changed while views were made; run the same command "
      "again: results are cached"
    )


def _take_over(old: Path, folder: Path, is_rewritten: Callable[[Path], bool]) -> Stats:
  """Moves to `folder` all files of `old` that appeared or changed just before the swap.

  Returns the stats of the rewritten files of `old`.
  """
  rewritten = {}
  for source in _walk(old):
    relative = source.relative_to(old)
    target = folder / relative
    if _is_folder(source):
      target.mkdir(exist_ok=True)
    elif is_rewritten(relative):
      rewritten[relative] = _stats(source.resolve())
    elif not os.path.lexists(target) or _stats(source)[1:] != _stats(target)[1:]:
      os.replace(source, target)
  return rewritten


def _is_folder(path: Path) -> bool:
  return path.is_dir() and not path.is_symlink()


def _stats(path: Path) -> tuple[int, ...]:
  """Returns the stats of a path; doesn't follow links."""
  status = path.lstat()
  return status.st_ino, status.st_size, status.st_mtime_ns


def _walk(folder: Path) -> Iterator[Path]:
  """Yields all files and folders in `folder`; a folder comes before its contents."""
  for root, folders, names in os.walk(folder):
    yield from (Path(root, name) for name in (*folders, *names))


def _link_files(folder: Path, new: Path, is_rewritten: Callable[[Path], bool]) -> Stats:
  """Links files of `folder` into `new`, except rewritten ones; removes stale links.

  Returns the stats of the rewritten files of `folder`.
  """
  rewritten = {}
  for path in _walk(new):
    if not _is_folder(path) and not is_rewritten(path.relative_to(new)):
      path.unlink()
  for source in _walk(folder):
    relative = source.relative_to(folder)
    if _is_folder(source):
      (new / relative).mkdir(exist_ok=True)
    elif is_rewritten(relative):
      rewritten[relative] = _stats(source.resolve())
    else:
      try:
        os.link(source, new / relative, follow_symlinks=False)
      except OSError:  # some file systems have no hard links
        shutil.copy2(source, new / relative, follow_symlinks=False)
  return rewritten


def _beside(folder: Path, name: str) -> Path:
  return folder.with_name(f".{folder.name}.{name}")

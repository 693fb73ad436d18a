"""Locks what a command writes, so that no other command writes to it meanwhile.

The kernel holds the locks (flock). It releases them when the process ends, even if the
process is killed. A killed process leaves the lock file behind, but not locked.
"""

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ssljax.errors import UserError
from ssljax.runtime.atomic import cannot_write, sweep

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
POLL = 0.1  # seconds between attempts to get a lock


class NoLocksError(OSError):
  """The file system has no locks."""


@contextlib.contextmanager
def exclusive(
  target: str | Path, flag: str, inside: bool = False, wait: float = 0.0
) -> Iterator[None]:
  """Locks a file or folder while the block runs.

  Clears what kills have left of the target, but not what they have left inside a
  folder: that is for the caller, when it knows that the folder is its own.

  Args:
    target: what the block writes. It needn't exist.
    flag: the flag that names the target, for errors: "--output".
    inside: the block writes files into the folder `target`, which is created. The lock
      file is then inside the folder, otherwise beside the target.
    wait: seconds to wait for another process that has the lock.

  Raises:
    UserError: another process or thread has the lock, the file system has no locks, or
      the lock file can't be written; a RunError if the disk is full.
  """
  folder = Path(target).absolute()
  inside = inside or not folder.name
  file = folder / ".lock" if inside else _beside(folder)
  try:
    created = [parent for parent in file.parents if not parent.exists()]
    lock = _acquire(file, wait)
  except BlockingIOError:
    raise UserError(
      f"{flag}={target}: {_holder(file)}; wait until it ends, or use another name"
    ) from None
  except OSError as error:
    raise cannot_write(f"{flag}={target}", error, "name another") from None
  try:
    if not inside:
      sweep(file.parent, folder.name)
    yield
  finally:
    # Deleted while it's locked: `_acquire` notices if it got a deleted file.
    with contextlib.suppress(OSError):
      file.unlink()
    os.close(lock)
    for parent in created:  # if nothing else was written
      with contextlib.suppress(OSError):
        parent.rmdir()


@contextlib.contextmanager
def shared(folder: Path) -> Iterator[None]:
  """Lets several processes write to a folder of caches at once.

  The first one clears what killed processes have left. If the file system has no locks,
  or the folder can't be written, nothing is cleared.
  """
  with contextlib.ExitStack() as stack:
    file = None
    with contextlib.suppress(OSError):
      folder.mkdir(parents=True, exist_ok=True)
      # Readable and writable, since NFS demands that of shared and exclusive locks.
      file = stack.enter_context(open(_beside(folder), "a+"))
    if file is not None:
      _share(file.fileno(), folder)
    yield


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
  """Lets one process at a time write a folder of caches; the others wait.

  If the file system has no locks, or the folder can't be written, nobody waits.
  """
  with contextlib.ExitStack() as stack:
    with contextlib.suppress(OSError):
      folder.mkdir(parents=True, exist_ok=True)
      file = stack.enter_context(open(folder / ".lock", "a+"))
      try:
        _flock(file.fileno())
      except BlockingIOError:
        print(f"{folder}: waits for another process that writes to it", file=sys.stderr)
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
    yield


def _share(lock: int, folder: Path) -> None:
  try:
    _flock(lock)
    sweep(folder)
  except BlockingIOError:
    pass
  except NoLocksError:
    return
  fcntl.flock(lock, fcntl.LOCK_SH)


def _beside(path: Path) -> Path:
  return path.with_name(f".{path.name}.lock")


def _acquire(file: Path, wait: float) -> int:
  """Returns the descriptor of the locked file; BlockingIOError if it stays locked."""
  deadline = time.monotonic() + wait
  while True:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
      lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:
      if file.parent.is_dir():  # such as /proc
        raise
      continue  # the holder has just removed the folder
    try:
      _flock(lock)
      with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(lock), os.stat(file)):
          with contextlib.suppress(OSError):  # a full disk
            os.truncate(lock, 0)
            os.write(
              lock,
              f"process {os.getpid()} on {socket.gethostname()} has been writing to it "
              f"since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode(),
            )
          return lock
    except BlockingIOError:
      os.close(lock)
      if time.monotonic() >= deadline:
        raise
      time.sleep(POLL)
      continue
    except BaseException:
      os.close(lock)
      raise
    os.close(lock)  # the holder has just deleted this file


def _flock(lock: int) -> None:
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno not in NO_LOCKS:
      raise
    raise NoLocksError(
      error.errno,
      f"its file system has no locks: {error.strerror}; without them, two commands "
      "could write to it at once",
    ) from None


def _holder(file: Path) -> str:
  with contextlib.suppress(OSError, ValueError):
    if holder := file.read_text(encoding="utf-8"):
      return holder
  return "another process is writing to it"

"""Locks: one process at a time, freed by a kill, and nothing is left behind."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from ssljax.errors import UserError
from ssljax.runtime.atomic import atomic_folder, sweep
from ssljax.runtime.lock import exclusive, shared

HOLD = """
import sys
import threading
from ssljax.runtime.atomic import atomic_file
from ssljax.runtime.lock import exclusive
with exclusive(sys.argv[1], "--output", inside=sys.argv[2] == "True"):
  with atomic_file(sys.argv[3]) as file:
    print("locked", flush=True)
    sys.stdin.read()
"""


def names(folder):
  return sorted(path.name for path in folder.iterdir())


def start(target, inside, written):
  """A process that has the lock and is writing a file."""
  process = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(target), str(inside), str(written)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "locked\n"
  return process


@pytest.mark.parametrize("inside", [False, True])
def test_the_second_says_who_holds_the_lock_and_a_kill_frees_it(tmp_path, inside):
  target = tmp_path / "new" / "target.json"
  written = target / "result.json" if inside else target
  process = start(target, inside, written)
  try:
    with (
      pytest.raises(
        UserError, match=rf"--output=\S+: process {process.pid} on \S+ has"
      ),
      exclusive(target, "--output", inside),
    ):
      pass
    assert len(names(written.parent)) == 2  # the lock and the temporary
  finally:
    process.send_signal(signal.SIGKILL)
    process.communicate()
  with exclusive(target, "--output", inside):
    if inside:  # only once the folder is known to be the command's own
      assert len(names(target)) == 2
      sweep(target, "result.json")
    assert len(names(written.parent)) == 1  # the temporary is swept
  assert list(written.parent.iterdir()) == []


@pytest.mark.parametrize("inside", [False, True])
def test_threads_and_links_are_refused_as_well(tmp_path, inside):
  (tmp_path / "real").mkdir()
  (tmp_path / "link").symlink_to("real")
  with (
    exclusive(tmp_path / "real" / "a", "--output", inside),
    pytest.raises(UserError, match="has been writing"),
    exclusive(tmp_path / "link" / "a", "--output", inside),
  ):
    pass


def test_nothing_is_left_of_a_block_that_writes_nothing(tmp_path):
  for inside in (False, True):
    with exclusive(tmp_path / "deep" / "er" / "a", "--output", inside):
      assert (tmp_path / "deep" / "er").exists()
    assert names(tmp_path) == []
  with exclusive(tmp_path / "deep" / "a", "--output"):
    (tmp_path / "deep" / "a").touch()
  assert names(tmp_path / "deep") == ["a"]


def test_only_temporaries_of_the_target_are_swept(tmp_path):
  process = subprocess.run(
    [sys.executable, "-c", "import os; print(os.getpid())"],
    capture_output=True,
    text=True,
  )
  dead = int(process.stdout)
  swept = {
    ".a.0123456789abcdef.json",
    ".a.json.0123456789abcdef",
    # Version 0.1.0 wrote these files.
    f".a.json.{dead}",
    f".a.json.{dead}.jsonl",
    ".new-a.json",
  }
  kept = {
    ".b.0123456789abcdef.json",
    ".a.17.json",
    "a.0123456789abcdef.json",
    f".a.json.{os.getpid()}",  # still being written
    f".a.json.{os.getpid()}.jsonl",
    f".b.json.{dead}",
    ".a.json.20260131",
    ".new-b.json",
  }
  for name in swept | kept:
    (tmp_path / name).touch()
  with exclusive(tmp_path / "a.json", "--output"):
    assert set(names(tmp_path)) == kept | {".a.json.lock"}


def test_what_version_0_1_0_did_not_write_is_kept(tmp_path):
  process = subprocess.Popen([sys.executable, "-c", ""])
  process.wait()
  (tmp_path / f".a.json.{process.pid}").mkdir()  # a folder
  (tmp_path / ".new-a.json").mkdir()
  (tmp_path / f".data.{process.pid}").touch()  # a file of a target without a suffix
  before = names(tmp_path)
  for target in ("a.json", "data"):
    with exclusive(tmp_path / target, "--output"):
      assert set(names(tmp_path)) == {*before, f".{target}.lock"}


def test_a_lock_inside_a_folder_leaves_the_work_of_neighbours_alone(tmp_path):
  # `ssljax export --output=models/classifier` beside `--workdir=models`, and a folder
  # of the user.
  output = tmp_path / "classifier"
  with exclusive(output, "--output"), atomic_folder(output):
    (tmp_path / ".notes.0123456789abcdef").mkdir()
    with exclusive(tmp_path, "--workdir", inside=True):
      pass
  assert names(tmp_path) == [".notes.0123456789abcdef", "classifier"]


def test_a_network_file_system_demands_that_shared_locks_can_be_read(
  tmp_path, monkeypatch
):
  flock = fcntl.flock

  def nfs(file, operation):  # as the kernel does for NFS
    mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
    if mode == (os.O_WRONLY if operation & fcntl.LOCK_SH else os.O_RDONLY):
      raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return flock(file, operation)

  monkeypatch.setattr(fcntl, "flock", nfs)
  cache = tmp_path / "cache"
  with shared(cache):
    (cache / ".a.0123456789abcdef").mkdir()
    with shared(cache):
      assert names(cache) == [".a.0123456789abcdef"]
  with exclusive(tmp_path / "a", "--output"):
    pass


def test_an_unknown_error_of_a_shared_lock_is_not_hidden(tmp_path, monkeypatch):
  def flock(*_):
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))

  monkeypatch.setattr(fcntl, "flock", flock)
  with pytest.raises(OSError, match="Bad file descriptor"), shared(tmp_path / "cache"):
    pass


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
  def flock(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

  monkeypatch.setattr(fcntl, "flock", flock)
  with (
    pytest.raises(UserError, match=r"--workdir=\S+/run: .* has no locks"),
    exclusive(tmp_path / "run", "--workdir", inside=True),
  ):
    pass
  with shared(tmp_path / "cache"):  # a cache is used all the same
    pass


def test_a_cache_is_swept_by_the_first_of_several_writers(tmp_path):
  cache = tmp_path / "assets"
  old, new = cache / ".a.0123456789abcdef", cache / ".b.0123456789abcdef"
  old.mkdir(parents=True)
  with shared(cache):
    assert not old.exists()
    new.mkdir()
    with shared(cache):
      assert new.exists()
  with shared(cache):
    assert names(cache) == []


def test_waiting_for_another_process(tmp_path):
  target = tmp_path / "lines.jsonl"
  process = start(target, False, target)
  kill = threading.Timer(0.5, process.kill)
  kill.start()
  try:
    with pytest.raises(UserError, match="has been writing"), exclusive(target, "--x"):
      pass
    with exclusive(target, "--x", wait=30):
      assert not kill.is_alive()
  finally:
    kill.join()
    process.communicate()

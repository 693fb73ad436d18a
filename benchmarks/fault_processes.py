"""Starts the commands that benchmarks.faults disturbs, as separate processes.

A short command spends most of its time on imports. This process therefore imports the
package once, and forks for each command. The command is a real process all the same,
with its own pid, signals, exit code and output.
"""

import atexit
import contextlib
import importlib
import mmap
import os
import resource
import runpy
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

STARTS, WORKS, HAS_ENDED = range(3)  # phases of a command
PRELOADED = (
  *("ssljax.cli", "ssljax.train", "ssljax.evals.report.run_page", "ssljax.export"),
  *("matplotlib.backends.backend_svg", "matplotlib.figure"),
  *("jinja2", "rapidfuzz.distance", "sqlite3", "pyarrow.parquet", "pyarrow.compute"),
  *("tokenizers", "transformers.models.auto.tokenization_auto"),
)
ORPHANS = 30.0  # seconds that a command's own processes may survive it


class End(NamedTuple):
  """How a process ended: its exit code (negative: a signal; None: it hung)."""

  code: int | None
  output: str  # standard output and standard error


def preload() -> None:
  """Imports what the commands import. Starts no thread and no backend of JAX."""
  for name in PRELOADED:
    importlib.import_module(name)


class Process:
  """A running command."""

  def __init__(
    self,
    module: str,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    limit: int | None = None,
  ):
    """Starts `python -m module arguments`; a path in place of a module is executed.

    Args:
      folder: the working directory.
      limit: no file may become larger, in bytes. Writing beyond it is an error, as it
        is on a full disk.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    self._phase = mmap.mmap(-1, 1)  # shared with the process
    self._pipe, end = os.pipe()
    self._status: int | None = None
    self.pid = os.fork()
    if not self.pid:
      code = 1
      try:
        _prepare(folder, environment, end, limit)
        code = _run(module, list(arguments), self._phase)
      finally:
        os._exit(code)
    os.close(end)

  @property
  def phase(self) -> int:
    return self._phase[0]

  def is_alive(self) -> bool:
    if self._status is None:
      pid, status = os.waitpid(self.pid, os.WNOHANG)
      if pid:
        self._status = os.waitstatus_to_exitcode(status)
    return self._status is None

  def send(self, number: int) -> bool:
    """Sends a signal; returns whether the process was alive."""
    alive = self.is_alive()
    if alive:
      os.kill(self.pid, number)
    return alive

  def children(self) -> list[int]:
    with contextlib.suppress(OSError):
      path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
      return [int(pid) for pid in path.read_text().split()]
    return []

  def finish(self, seconds: float) -> End:
    """Waits until it and all its own processes have ended, but at most so long."""
    output, open_, deadline = bytearray(), True, time.monotonic() + seconds
    while open_ or self.is_alive():
      if not self.is_alive():
        deadline = min(deadline, time.monotonic() + ORPHANS)
      if time.monotonic() > deadline:
        break
      if not open_:
        time.sleep(0.002)
      elif select.select([self._pipe], [], [], 0.02)[0]:
        chunk = os.read(self._pipe, 65536)
        output += chunk
        open_ = bool(chunk)
    hangs = open_ or self.is_alive()
    with contextlib.suppress(ProcessLookupError, PermissionError):
      os.killpg(self.pid, signal.SIGKILL)
    while self.is_alive():
      time.sleep(0.002)
    os.close(self._pipe)
    return End(None if hangs else self._status, output.decode(errors="replace"))


def _prepare(
  folder: Path, environment: Mapping[str, str], end: int, limit: int | None
) -> None:
  os.setsid()
  os.chdir(folder)
  os.environ.clear()
  os.environ.update(environment)
  for descriptor in (1, 2):
    os.dup2(end, descriptor)
  os.close(end)
  sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
  sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
  if limit is not None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def _run(module: str, arguments: list[str], phase: mmap.mmap) -> int:
  """Becomes the command; returns its exit code, as the interpreter would."""
  if module.endswith(".py"):
    phase[0] = WORKS
    os.execv(sys.executable, [sys.executable, module, *arguments])
  import jax

  from ssljax import cli

  # Compiled programs are kept, so that commands compile almost nothing.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update(
    "jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"]
  )
  guarded = cli.guarded

  def marked(*values, **options):
    phase[0] = WORKS
    try:
      return guarded(*values, **options)
    finally:
      phase[0] = HAS_ENDED

  cli.guarded = marked
  sys.modules.pop(module, None)  # runpy warns about a module that is loaded already
  sys.argv = [module, *arguments]
  code = 0
  try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
  except SystemExit as end:
    if isinstance(end.code, str):
      print(end.code, file=sys.stderr)
    code = end.code if isinstance(end.code, int) else int(end.code is not None)
  except BaseException as error:
    traceback.print_exc()
    code = 130 if isinstance(error, KeyboardInterrupt) else 1
  threading._shutdown()
  atexit._run_exitfuncs()
  sys.stdout.flush()
  sys.stderr.flush()
  return code

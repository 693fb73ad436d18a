"""Starts processes that end with this one, even if it's killed (on Linux)."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from ssljax.runtime import signals

# Prepares the new process, which then becomes the command. (Not `preexec_fn`: that is
# unsafe if there are threads, and JAX warns about it.)
PREPARE = """
import ctypes, os, signal, sys
parent, cores, *command = sys.argv[1:]
PR_SET_PDEATHSIG = 1  # a constant of Linux
if prctl := getattr(ctypes.CDLL(None), "prctl", None):
  prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != int(parent):  # it was killed before the call
    sys.exit(1)
if cores:
  os.sched_setaffinity(0, map(int, cores.split(",")))
os.execvp(command[0], command)
"""


def start(
  command: Sequence[str], cores: Sequence[int] = (), **options: Any
) -> subprocess.Popen[bytes]:
  """Starts a command in its own process group, so that Ctrl-C doesn't reach it.

  On Linux, the kernel kills the process when the thread that called this ends. So call
  it from the main thread.

  Args:
    cores: the CPU cores that the process may use; by default, those of this process.
    **options: of `subprocess.Popen`.
  """
  arguments = [str(os.getpid()), ",".join(map(str, cores)), *command]
  return subprocess.Popen(
    [sys.executable, "-I", "-c", PREPARE, *arguments],
    start_new_session=True,
    **options,
  )


def serve_parent() -> None:
  """Prepares a worker process of `multiprocessing`: the parent alone ends it."""
  for number in signals.EXIT_CODES:
    signal.signal(number, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes
  threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
  parent = multiprocessing.parent_process()
  assert parent is not None
  parent.join()  # returns even if the parent is killed
  os._exit(1)

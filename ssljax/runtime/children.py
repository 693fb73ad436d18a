"""Starts processes that end with this one, even if it's killed (on Linux)."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

PR_SET_PDEATHSIG = 1  # a constant of Linux


def start(
  command: Sequence[str], cpus: Sequence[int] | None = None, **options: Any
) -> subprocess.Popen[bytes]:
  """Starts a command in its own process group, so that Ctrl-C doesn't reach it.

  On Linux, the kernel kills the process when the thread that called this ends. So call
  it from the main thread.

  Args:
    cpus: the CPU cores that the process may use, if the system supports that.
    **options: of `subprocess.Popen`.
  """
  prctl, parent = getattr(ctypes.CDLL(None), "prctl", None), os.getpid()

  def prepare() -> None:  # in the new process
    if prctl is not None:
      prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
      if os.getppid() != parent:  # it was killed before the call
        os.kill(os.getpid(), signal.SIGKILL)
    if cpus is not None:
      os.sched_setaffinity(0, cpus)

  return subprocess.Popen(
    command, start_new_session=True, preexec_fn=prepare, **options
  )

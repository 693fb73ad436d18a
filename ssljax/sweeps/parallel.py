"""Trains the runs of a sweep on this machine, several at a time.

Each run has its own process, so one that crashes or runs out of memory can't take
the others along. Its output goes to `run.log` in its folder.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ssljax.errors import UserError
from ssljax.runtime import children
from ssljax.runtime.signals import StopSignals
from ssljax.sweeps.devices import Share
from ssljax.sweeps.plan import SweepRun
from ssljax.sweeps.progress import StepProgress
from ssljax.training.workdir import read_result

POLL = 0.2  # seconds
SIGNAL_TIMEOUT = 300  # seconds to save after a signal


class Ended(NamedTuple):
  """How the runs ended."""

  code: int  # the exit code that a signal asks for; 0 without one
  failures: dict[str, str]  # name -> why the run failed


def train(
  runs: Sequence[SweepRun],
  shares: Sequence[Share],
  progress: StepProgress,
  on_finished: Callable[[SweepRun], object] = lambda run: None,
) -> Ended:
  """Trains runs until all are finished or have failed, or until a signal.

  SIGINT and SIGTERM stop the runs, which save first; a second SIGINT kills them. On
  Linux, the runs are also killed when this process is killed.

  Args:
    runs: the runs, in the order in which they start. A run that another process has
      finished meanwhile isn't started.
    shares: what each run may use; there are as many runs at a time.
    on_finished: called for each finished run.
  """
  waiting, free = deque(runs), deque(shares)
  running: list[tuple[SweepRun, Share, subprocess.Popen[bytes]]] = []
  failures: dict[str, str] = {}

  def end(run: SweepRun, failure: str = "") -> None:
    if failure:
      failures[run.name] = failure
      run.mark_failed(failure)
      progress.failed(run, failure)
    else:
      progress.finished(run)
      on_finished(run)

  with StopSignals() as stop:
    deadline = float("inf")
    try:
      while running or (waiting and not stop):
        while waiting and free and not stop:
          run = waiting.popleft()
          try:
            process = None if run.result() else start(run, free[0])
          except (UserError, OSError) as error:
            end(run, str(error))
            continue
          if process is None:
            end(run)
          else:
            running.append((run, free.popleft(), process))
        if stop and deadline == float("inf"):
          deadline = time.monotonic() + SIGNAL_TIMEOUT
          progress.note("stopping: the runs finish a step and save")
          for _, _, process in running:
            process.terminate()
        if time.monotonic() > deadline:
          for _, _, process in running:
            process.kill()
        for entry in list(running):
          run, share, process = entry
          if process.poll() is not None:
            running.remove(entry)
            free.append(share)
            if process.returncode == 0 and read_result(run.workdir):
              end(run)
            elif not stop:
              end(run, reason(process.returncode, run.log))
        progress.show([run for run, _, _ in running])
        time.sleep(POLL)
    finally:
      for _, _, process in running:
        process.kill()
        process.wait()
  return Ended(stop.code, failures)


def start(run: SweepRun, share: Share) -> subprocess.Popen[bytes]:
  """Starts `python -m ssljax.main` for a run."""
  run.log.parent.mkdir(parents=True, exist_ok=True)
  command = [sys.executable, "-m", "ssljax.main", *run.arguments]
  with open(run.log, "ab") as log:
    log.write(f"$ {shlex.join(command)}\n".encode())
    log.flush()
    return children.start(
      command,
      share.cores,
      env={**os.environ, **share.variables},
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
    )


def reason(code: int, log: Path) -> str:
  """Says in a line why a run has failed."""
  if code < 0:
    number = -code
    how = f"killed by {signal.Signals(number).name}"
    return f"{how} (out of memory?)" if number == signal.SIGKILL else how
  with open(log, encoding="utf-8", errors="replace") as file:
    lines = [line.strip() for line in file if line.strip()]
  starts = [i for i, line in enumerate(lines) if line.startswith("$ ")]
  lines = lines[max(starts, default=0) :]  # of the last attempt
  errors = [line for line in lines if line.startswith("error: ")]
  how = f"exit code {code}" if code else "no result"
  return f"{how}: {(errors or lines)[-1]}"

"""Shows the progress of a sweep: the steps of all its runs, and the remaining time."""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssljax import run_config
from ssljax.config import steps_of
from ssljax.errors import UserError
from ssljax.runtime.progress import Progress
from ssljax.sweeps.plan import SweepRun
from ssljax.training.workdir import read_result, summary

EVERY = 1.0  # seconds between looks at the files of the runs


class StepProgress(contextlib.AbstractContextManager):
  """Counts the steps of the runs that a command trains.

  The number of steps is known from the config, or from the folder of a run once it has
  read its data. Until then, a run counts as 0 steps.
  """

  def __init__(self, runs: Sequence[SweepRun], label: str):
    self._count, self._ended = len(runs), {"finished": 0, "failed": 0}
    self._next = 0.0
    self._totals = {run.name: total_steps(run) for run in runs}
    self._done = {run.name: done_steps(run.workdir) for run in runs}
    self._bar = Progress(
      sum(self._totals.values()), "step", sum(self._done.values()), label=label
    )

  def show(self, running: Sequence[SweepRun]) -> None:
    """Updates the display with the steps of the runs that are running."""
    if time.monotonic() < self._next:
      return
    self._next = time.monotonic() + EVERY
    steps = added = 0
    for run in running:
      steps += self._set(self._done, run, done_steps(run.workdir))
      added += self._set(self._totals, run, total_steps(run))
    if steps or added:
      self._bar.update(steps, self._shown(), added)

  def finished(self, run: SweepRun) -> None:
    result = read_result(run.workdir) or {}
    self._end(run, "finished", result.get("steps", 0))
    self.note(f"{run.name}: {summary(result)}" if "test" in result else run.name)

  def failed(self, run: SweepRun, failure: str) -> None:
    self._end(run, "failed", self._done[run.name])
    self.note(f"{run.name} failed: {failure}")

  def note(self, line: str) -> None:
    self._bar.note(line)

  def __exit__(self, *error: object) -> None:
    self._bar.close()

  def _end(self, run: SweepRun, how: str, steps: int) -> None:
    """Counts a run that has ended; it may have stopped early."""
    self._ended[how] += 1
    done = self._set(self._done, run, steps)
    self._bar.update(done, self._shown(), self._set(self._totals, run, steps))

  def _set(self, counts: dict[str, int], run: SweepRun, value: int) -> int:
    difference = value - counts[run.name]
    counts[run.name] = value
    return difference

  def _shown(self) -> dict[str, int]:
    failed = self._ended["failed"]
    return {**self._ended} if failed else {"finished": self._ended["finished"]}


def total_steps(run: SweepRun) -> int:
  """The number of steps of a run; 0 if it isn't known yet."""
  try:
    return run_config.read(run.workdir)["resolved"]["steps"]
  except (UserError, KeyError):
    config: dict[str, Any] = run.config
    if config["steps"] or config["labels"]:
      return steps_of(config, config["labels"])["steps"]
    return 0


def done_steps(workdir: Path) -> int:
  """The last step in the metrics.jsonl of a run."""
  try:
    lines = (workdir / "metrics.jsonl").read_bytes().splitlines()
  except OSError:
    return 0
  for line in reversed(lines):
    try:
      return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):  # it's being written
      continue
  return 0

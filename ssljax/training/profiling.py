"""Traces a few steps of a run with jax.profiler."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

WARM_UP = 5  # steps before the trace, most of which compile


class Trace(contextlib.AbstractContextManager):
  """Traces some steps of the loop; the end of the `with` block ends the trace.

  If the trace can't be started or written, the run continues with a note.
  """

  def __init__(
    self,
    count: int,
    workdir: Path,
    steps: range,
    note: Callable[[str], None],
    settle: Callable[[], Any],
  ):
    """Chooses the steps.

    Args:
      count: number of steps to trace; 0 for none. Only the first process traces.
      workdir: the trace is written to profile/plugins/profile/TIME in it.
      steps: the steps of the loop. If there are fewer than `count`, all are traced.
      note: prints a line.
      settle: waits until the devices have run all dispatched steps.
    """
    self._folder, self._note, self._settle = workdir / "profile", note, settle
    count = count if jax.process_index() == 0 else 0
    begin = max(min(steps.start + WARM_UP, steps.stop - count), steps.start)
    self._steps = range(begin, min(begin + count, steps.stop))
    self._active = False

  @contextlib.contextmanager
  def step(self, t: int) -> Iterator[None]:
    """Wraps the dispatch of step t."""
    if t in self._steps and t == self._steps.start:
      self._start()
    if not self._active:
      yield
      return
    with jax.profiler.StepTraceAnnotation("train", step_num=t):
      yield
    if t + 1 == self._steps.stop:
      self._stop()

  def _start(self) -> None:
    self._settle()
    with self._noting_errors():
      jax.profiler.start_trace(self._folder)
      self._active = True

  def _stop(self) -> None:
    self._active = False
    with self._noting_errors():
      try:
        self._settle()
      finally:
        jax.profiler.stop_trace()
      self._note(f"profile of {len(self._steps)} steps in {self._folder}")

  @contextlib.contextmanager
  def _noting_errors(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:
      self._note(f"{self._folder}: no profile ({error}); the run continues")

  def __exit__(self, *error: object) -> None:
    if self._active:  # a signal, an early stop or an error
      self._active = False
      with self._noting_errors():
        jax.profiler.stop_trace()

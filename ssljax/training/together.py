"""Several processes that fail or stop together, so that none waits for another."""

import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from ssljax.errors import RunError, UserError
from ssljax.runtime import lock
from ssljax.runtime.signals import StopSignals

_barriers = itertools.count()


@contextlib.contextmanager
def errors_of_first(path: str | os.PathLike) -> Iterator[None]:
  """Raises an error in all processes if process 0 raises one.

  All processes must call it, and only process 0 may raise in the block. Otherwise, the
  others would wait for process 0 at their next exchange.

  Args:
    path: the file that the other processes name if process 0 can't write.
  """
  failure, number = None, 0
  try:
    yield
  except Exception as error:
    failure, number = error, getattr(error, "errno", None) or -1
  number = int(multihost_utils.broadcast_one_to_all(np.int32(number)))
  if failure:
    raise failure
  if number > 0:
    raise OSError(number, os.strerror(number), str(path))
  if number:
    raise RunError("process 0 has failed; its output says why")


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
  """Locks the folder of the run: the first process does so for all of them."""
  with contextlib.ExitStack() as stack:
    problem = None
    if jax.process_index() == 0:
      try:
        stack.enter_context(lock.exclusive(workdir, "--workdir", inside=True))
      except UserError as error:
        problem = error
    if multihost_utils.broadcast_one_to_all(np.bool_(problem is not None)):
      raise problem or UserError(f"--workdir={workdir}: process 0 couldn't lock it")
    yield


def agree(problem: str | None) -> str | None:
  """The problem of this process, or a note if only another process has a problem."""
  failed = any_process(problem is not None)
  return "damaged for another process" if failed and problem is None else problem


def any_process(value: bool) -> bool:
  """Whether the value is true in any process. All processes must call it."""
  return bool(multihost_utils.process_allgather(np.array(value)).any())


class Barrier:
  """A barrier for the threads with which Orbax saves checkpoints.

  If a process can't write its part of a checkpoint, Orbax takes it to the barrier at
  the end of the save, while the others wait at an earlier one. At JAX's own barriers,
  both would wait for 20 minutes. Here, the processes exchange the names of their
  barriers. Those at the earlier one raise an error, which takes them to the last one.

  All processes must create it in the same order.
  """

  def __init__(self):
    self._client = distributed.global_state.client  # not public, but Orbax uses it too
    self._folder = f"ssljax/barrier/{next(_barriers)}"
    self._arrivals = 0

  def __call__(self, *, key: str, timeout_ms: int) -> None:
    """Waits until all processes are here.

    Raises:
      RuntimeError: this barrier is inside a save that another process has left.
    """
    while not self._all_at(key, timeout_ms):
      if "async_" in key:
        raise RuntimeError("another process couldn't write its part")

  def _all_at(self, key: str, timeout_ms: int) -> bool:
    self._arrivals += 1
    mine = jax.process_index()
    name = lambda arrival, process: f"{self._folder}/{arrival}/{process}"
    self._client.key_value_set(name(self._arrivals, mine), key)
    keys = [
      self._client.blocking_key_value_get(name(self._arrivals, process), timeout_ms)
      for process in range(jax.process_count())
    ]
    # Everyone is here, so everyone has read the keys of the arrival before.
    self._client.key_value_delete(name(self._arrivals - 1, mine))
    return set(keys) == {key}


def stop_signals() -> StopSignals:
  """Makes SIGINT and SIGTERM stop the loop after the current step.

  With several processes, JAX handles SIGTERM and lets all processes agree on a step;
  SIGINT is passed on as SIGTERM.
  """
  if jax.process_count() == 1:
    return StopSignals()
  return StopSignals(
    on_stop=lambda: os.kill(os.getpid(), signal.SIGTERM), signals=(signal.SIGINT,)
  )

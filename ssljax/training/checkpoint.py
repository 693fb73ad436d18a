"""Saves and restores Orbax checkpoints: the latest two and the best, all verified."""

import contextlib
import functools
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from ssljax.errors import RunError, UserError
from ssljax.runtime.atomic import FULL
from ssljax.training import pytrees, together, workdir

# (step, record) -> (result, tree to verify, SHA-256 of this tree when it was saved)
_Read = Callable[[int, dict], tuple[Any, Any, str]]


def restore_params(
  folder: str | Path, from_saved: Callable[[dict], Any]
) -> tuple[int, Any, list[str]]:
  """Reads the parameters of the best step, without the optimiser's and method's state.

  If the best checkpoint is damaged, the newest good one is used. The parameters are
  verified with the SHA-256 in the checkpoint. Checkpoints of version 0.1.0 have only a
  SHA-256 of the whole state, so the whole state is read and verified.

  Args:
    folder: the `checkpoints` folder of a run.
    from_saved: rebuilds the whole state from nested dicts of NumPy arrays, such as
      `step.from_saved`. Called only for checkpoints of version 0.1.0.

  Returns:
    (step, params, notes). `params` are nested dicts of NumPy arrays. If the run keeps a
    moving average of the parameters, `params` is this average. `notes` names the
    skipped checkpoints.

  Raises:
    UserError: there is no checkpoint, or none can be read.
  """
  if not Path(folder).is_dir():
    raise _no_checkpoint(folder)
  with contextlib.closing(Checkpoints(folder)) as checkpoints:
    read = functools.partial(checkpoints._read_params, from_saved)
    params, _, step = checkpoints._restore_best(read)
    return step, params, checkpoints.notes


class Checkpoints:
  """The checkpoints of one run: the latest two and the best.

  If the latest is damaged, the second latest is used. If a run has several processes,
  all of them must call every method with the same arguments.

  Attributes:
    notes: one line for each checkpoint that the last restore skipped.
  """

  def __init__(self, folder: str | Path, clean: bool = False):
    """Opens the checkpoints.

    Args:
      clean: delete the incomplete files of saves that were killed. Only the run itself
        may do so: others would delete files that the run is writing.
    """
    _silence_dropped()
    self.notes: list[str] = []
    self._folder = Path(folder).absolute()
    self._values: dict[int, float | None] = {}  # selection metric of each good step
    self._bad: set[int] = set()  # damaged steps; the next save deletes them
    kept = checkpoint_managers.AnyPreservationPolicy(
      [checkpoint_managers.LatestN(n=2), _Best(self)]
    )
    options = ocp.CheckpointManagerOptions(
      preservation_policy=kept, cleanup_tmp_directories=clean
    )
    if jax.process_count() > 1:
      options.async_options = ocp.AsyncOptions(barrier_sync_fn=together.Barrier())
    self._manager = ocp.CheckpointManager(self._folder, options=options)
    for step in self._manager.all_steps():
      # Damage is reported when restoring; here, a damaged checkpoint just has no value.
      with contextlib.suppress(Exception):
        self._values[step] = self._read_record(step)["value"]

  def save(self, step: int, state: Any, meta: dict, value: float | None = None) -> None:
    """Starts saving. When this returns, the caller may donate the arrays.

    Args:
      step: step number. An existing checkpoint of this step is replaced.
      state: pytree of arrays and typed PRNG keys.
      meta: JSON values; `restore` returns them with "state_sha256" added.
      value: the selection metric, or None if the model wasn't evaluated at this step.

    Raises RunError if this checkpoint or the one before can't be written.
    """
    step = int(step)
    meta = json.loads(json.dumps({**meta, "state_sha256": pytrees.sha256(state)}))
    # Orbax writes NaN as a bare word, which is not JSON.
    value = float(value) if value is not None and math.isfinite(value) else None
    named = pytrees.to_named(state)
    record = {
      "meta": meta,
      "meta_sha256": _record_sha256(meta, value),
      "params_sha256": pytrees.sha256(named.get(_params_name(named))),
      "value": value,
    }
    self.wait()
    for old in set(self._manager.all_steps()) & (self._bad | {step}):
      self._manager.delete(old)
    self._bad.clear()
    self._values[step] = value
    with self._save_errors():
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(named), meta=ocp.args.JsonSave(record)
        ),
        force=True,  # otherwise Orbax doesn't save a step below the latest
      )

  def verify(self, step: int, abstract: Any) -> None:
    """Reads a checkpoint back, into the host's memory; RunError if that fails."""
    self.wait()
    _, _, problem = self._try(step, functools.partial(self._read_on_host, abstract))
    if problem:
      raise RunError(
        f"{self._folder}: the checkpoint of step {step} was written but can't be read "
        f"back ({problem}), so the run stops; use another --workdir"
      )

  def restore(self, abstract: Any) -> tuple[Any, dict, int] | None:
    """Restores the newest good checkpoint.

    Damaged ones are skipped, reported in `notes`, and deleted by the next `save`.

    Args:
      abstract: the state as jax.ShapeDtypeStruct with shardings, also for typed keys.

    Returns:
      (state, meta, step), or None if there is no checkpoint.

    Raises:
      UserError: there are checkpoints, but none can be read.
    """
    return self._restore(functools.partial(self._read_state, abstract))

  def restore_best(self, abstract: Any) -> tuple[Any, int]:
    """Restores (state, step) of the best step, or of the newest good checkpoint.

    Raises:
      UserError: no checkpoint can be read.
    """
    read = functools.partial(self._read_state, abstract)
    state, _, step = self._restore_best(read)
    return state, step

  def best_step(self) -> int | None:
    """The earliest step with the highest value; None if no step has a value."""
    return self._best_of(self._manager.all_steps())

  def latest_step(self) -> int | None:
    """The newest step that is not known to be damaged."""
    return max(set(self._manager.all_steps()) - self._bad, default=None)

  def kept(self) -> str:
    """Says which checkpoint is on disk."""
    steps = {int(p.name) for p in self._folder.iterdir() if p.name.isdigit()}
    good = max(steps - self._bad, default=None)
    return "no checkpoint yet" if good is None else f"checkpoint of step {good} kept"

  def check(self) -> None:
    """Raises RunError if the last save has failed.

    Doesn't wait for a save that is still in progress, unless another process is ready:
    then all wait.
    """
    # All processes must wait, or none: those that continue would miss the others.
    if together.any_process(not self._manager.is_saving_in_progress()):
      self.wait()

  def wait(self) -> None:
    """Waits until everything is on disk; raises RunError if that failed."""
    with self._save_errors():
      self._manager.wait_until_finished()
      self._manager.check_for_errors()

  @contextlib.contextmanager
  def _save_errors(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # full disks alone raise several types
      full = (os.strerror(n) for n in FULL if os.strerror(n) in str(error))
      raise RunError(
        f"{self._folder}: a checkpoint can't be saved ({next(full, _one_line(error))};"
        f" {self.kept()}); free some space and run the same command to continue"
      ) from error

  def close(self) -> None:
    """Waits until everything is on disk, then ends the background threads."""
    self.wait()
    self._manager.close()

  def _best_of(self, steps: Iterable[int]) -> int | None:
    evaluated = [s for s in sorted(steps) if self._values.get(s) is not None]
    return max(evaluated, key=self._values.__getitem__, default=None)

  def _restore(
    self, read: _Read, best: int | None = None
  ) -> tuple[Any, dict, int] | None:
    """(result, meta, step) of step `best`, or of the newest good checkpoint."""
    self._manager.wait_until_finished()
    self.notes = []
    steps = self._manager.all_steps()
    for step in sorted(steps, key=lambda step: (step == best, step), reverse=True):
      result, meta, problem = self._try(step, read)
      if problem is None:
        if self.notes:
          self.notes[-1] += f"; using step {step}"
        return result, meta, step
      name = "best checkpoint, of" if step == best else "checkpoint of"
      self.notes.append(f"skipped the {name} step {step}: {problem}")
    if steps:
      found = workdir.pattern_in(self._folder)
      raise UserError(
        f"{self._folder}: none of the {len(steps)} checkpoints can be read"
        f" ({'; '.join(self.notes)}); "
        + (f"rename the folder, so that the path has no {found}, or " if found else "")
        + "start again in another --workdir"
      )
    return None

  def _restore_best(self, read: _Read) -> tuple[Any, dict, int]:
    restored = self._restore(read, self.best_step())
    if restored is None:
      raise _no_checkpoint(self._folder)
    return restored

  def _try(self, step: int, read: _Read) -> tuple[Any, dict | None, str | None]:
    """(result, meta, None), or (None, None, the problem in one line) if damaged."""
    # Each kind of damage, from JSON to TensorStore, raises a different exception.
    try:
      record = self._read_record(step)
      result, tree, expected = read(step, record)
      problem = None
    except Exception as error:
      problem = _one_line(error)
    # Even if a file is damaged for only one process, all processes must restore the
    # same step, and all must call sha256.
    problem = together.agree(problem)
    if problem is None and pytrees.sha256(tree) != expected:
      problem = "its bytes have changed since it was saved (SHA-256 differs)"
    problem = together.agree(problem)
    if problem is None:
      return result, record["meta"], None
    self._bad.add(step)
    self._values.pop(step, None)
    return None, None, problem

  def _read_state(self, abstract: Any, step: int, record: dict) -> tuple[Any, Any, str]:
    wanted = pytrees.to_named(abstract, abstract=True)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
    named = self._manager.restore(step, args=args).state
    state = jax.block_until_ready(pytrees.from_named(named, abstract))
    return state, state, record["meta"]["state_sha256"]

  def _read_on_host(self, abstract: Any, step: int, record: dict) -> tuple:
    # Orbax restores NumPy arrays where it's given some; these here take no memory.
    empty = lambda a: np.broadcast_to(np.zeros((), a.dtype), a.shape)
    wanted = jax.tree.map(empty, pytrees.to_named(abstract, abstract=True))
    args = ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
    named = self._manager.restore(step, args=args).state
    state = pytrees.from_named(named, abstract)
    return state, state, record["meta"]["state_sha256"]

  def _read_params(
    self, from_saved: Callable[[dict], Any], step: int, record: dict
  ) -> tuple[Any, Any, str]:
    folder = self._folder / str(step) / "state"
    tree = ocp.PyTreeCheckpointHandler().metadata(folder).tree
    name = _params_name(tree)
    expected = record.get("params_sha256")  # version 0.1.0 didn't save it
    as_struct = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
    shapes = jax.tree.map(as_struct, {name: tree[name]} if expected else tree)
    as_numpy = jax.tree.map(lambda a: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    partial = ocp.args.PyTreeRestore(shapes, as_numpy, partial_restore=True)
    named = self._manager.restore(step, args=ocp.args.Composite(state=partial)).state
    if expected:
      return named[name], named[name], expected
    return named[name], from_saved(named), record["meta"]["state_sha256"]

  def _read_record(self, step: int) -> dict:
    """Reads the JSON saved with the state; raises a ValueError if it has changed."""
    args = ocp.args.Composite(meta=ocp.args.JsonRestore())
    record = self._manager.restore(step, args=args).meta
    if record["meta_sha256"] != _record_sha256(record["meta"], record["value"]):
      raise ValueError("its metadata has changed since it was saved (SHA-256 differs)")
    return record


def _silence_dropped() -> None:
  """Hides errors of reads and writes that Orbax abandoned because another failed."""
  hook = sys.unraisablehook
  if getattr(hook, "func", None) is not _report_unless_dropped:
    sys.unraisablehook = functools.partial(_report_unless_dropped, hook)


def _report_unless_dropped(hook: Callable, report: Any) -> None:
  dropped = ("Event loop is closed", "Encountered error while reading array index")
  if not str(report.exc_value).startswith(dropped):
    hook(report)


class _Best(checkpoint_managers.PreservationPolicy):
  """Keeps the best step. (Orbax's BestN ranks NaN, and keeps the last of equals.)"""

  def __init__(self, checkpoints: Checkpoints):
    self._checkpoints = checkpoints

  def should_preserve(self, checkpoints: Sequence, *, context) -> list[bool]:
    best = self._checkpoints._best_of(info.step for info in checkpoints)
    return [info.step == best for info in checkpoints]


def _params_name(named: dict) -> str:
  """The entry of a saved state that has the parameters for predictions."""
  return "ema" if "ema" in named else "params"


def _no_checkpoint(folder: str | Path) -> UserError:
  return UserError(
    f"{folder}: no checkpoint yet; wait until the run has saved its first one"
  )


def _one_line(error: Exception) -> str:
  return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _record_sha256(meta: dict, value: float | None) -> str:
  return hashlib.sha256(json.dumps([meta, value], sort_keys=True).encode()).hexdigest()

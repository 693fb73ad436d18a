"""Checkpoints: saved while the run goes on, verified when read, the best one kept."""

import hashlib
import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from ssljax.errors import UserError
from ssljax.training import pytrees

TEMPORARY = ".orbax-checkpoint-tmp"  # in the names of Orbax's unfinished folders


class Checkpoints:
  """The checkpoints of one run: the latest two, and the best.

  Two, so that a damaged newest one leaves one to go back to. With several processes
  each calls every method, with the same arguments.

  Attributes:
    notes: what a user should know of the last `restore`, one line each.
  """

  def __init__(self, folder: Path):
    self.notes: list[str] = []
    self._folder = Path(folder).absolute()
    self._values: dict[int, float] = {}  # of the steps that were evaluated
    self._saved: dict[int, dict] = {}  # what this process has saved, to skip repeats
    self._bad: set[int] = set()  # damaged: passed over, deleted by the next save
    self._cleaned = False
    latest = checkpoint_managers.LatestN(n=2)
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(
          [latest, _Best(self)]
        ),
      ),
    )
    for step in self._manager.all_steps():
      # A damaged one shows when it is restored; here it has no value.
      try:
        self._note_value(step, self._read_record(step)["value"])
      except Exception:
        continue

  def save(self, step: int, state: Any, meta: dict, value: float | None = None) -> None:
    """Begins to save; the arrays may be donated as soon as it returns.

    Args:
      step: its number. One that is there already is replaced.
      state: pytree of arrays and typed PRNG keys.
      meta: JSON; comes back from `restore` with "state_sha256" added.
      value: the selection metric where the model was evaluated at this very step.
    """
    step = int(step)
    meta = json.loads(json.dumps({**meta, "state_sha256": pytrees.sha256(state)}))
    value = None if value is None else float(value)
    # Orbax writes NaN as a bare word, which is no JSON.
    value = value if value is not None and math.isfinite(value) else None
    record = {"meta": meta, "meta_sha256": _digest(meta, value), "value": value}
    self._manager.wait_until_finished()
    if self._saved.get(step) == record:
      return
    self._delete_leftovers()
    for old in set(self._manager.all_steps()) & (self._bad | {step}):
      self._delete(old)
    self._note_value(step, value)
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(pytrees.to_named(state)),
        meta=ocp.args.JsonSave(record),
      ),
      force=True,  # Orbax leaves out a step below the newest one otherwise
    )
    self._saved[step] = record

  def restore(self, abstract: Any) -> tuple[Any, dict, int] | None:
    """The newest good checkpoint: (state, meta, step); None if there is none at all.

    Damaged ones are passed over, named in `notes`, and deleted by the next `save`.

    Args:
      abstract: the state as jax.ShapeDtypeStruct with shardings, typed keys included.

    Raises:
      UserError: there are checkpoints, but none is good.
    """
    self._manager.wait_until_finished()
    self.notes = []
    steps = sorted(self._manager.all_steps(), reverse=True)
    for step in steps:
      state, meta, problem = self._try(step, abstract)
      if problem is None:
        return state, meta, step
      self._bad.add(step)
      self._values.pop(step, None)
      self.notes.append(f"checkpoint of step {step} passed over: {problem}")
    if steps:
      raise UserError(
        f"{self._folder}: none of the {len(steps)} checkpoints can be read"
        f" ({'; '.join(self.notes)}): begin again in another --workdir"
      )
    return None

  def restore_best(self, abstract: Any) -> tuple[Any, int]:
    """The state of the best step; where that is damaged, of the newest good one.

    Returns:
      (state, step); `notes` says what was passed over.

    Raises:
      UserError: no checkpoint can be read.
    """
    self.notes = []
    best = self.best_step()
    if best is not None:
      state, _, problem = self._try(best, abstract)
      if problem is None:
        return state, best
      self._bad.add(best)
      self._values.pop(best)
    restored = self.restore(abstract)
    if restored is None:
      raise UserError(
        f"{self._folder}: no checkpoint yet; let the run reach its first one"
      )
    state, _, step = restored
    if best is not None:
      self.notes.append(
        f"checkpoint of step {best}, the best, passed over: {problem}; step {step} "
        "is used"
      )
    return state, step

  def best_step(self) -> int | None:
    """The step of the highest value, the earliest of several; None without values."""
    here = [s for s in sorted(self._values) if s in self._manager.all_steps()]
    return max(here, key=self._values.__getitem__, default=None)

  def latest_step(self) -> int | None:
    """The newest step that is not known to be damaged."""
    return max(set(self._manager.all_steps()) - self._bad, default=None)

  def wait(self) -> None:
    """Returns when all is on disk. Raises what went wrong in the background."""
    self._manager.wait_until_finished()
    self._manager.check_for_errors()

  def close(self) -> None:
    """Waits and ends the background threads."""
    self.wait()
    self._manager.close()

  def _try(self, step: int, abstract: Any) -> tuple[Any, dict | None, str | None]:
    """(state, meta, None) or (None, None, what is wrong in one line)."""
    state, meta, problem = None, None, None
    _pass_over_dropped_reads()
    # Whatever is wrong with the files, from JSON to TensorStore, raises its own type.
    try:
      record = self._read_record(step)
      meta = record["meta"]
      wanted = pytrees.to_named(abstract, abstract=True)
      named = self._manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
      ).state
      state = jax.block_until_ready(pytrees.from_named(named, abstract))
    except Exception as error:
      problem = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    # One process may read a damaged file that the others do not; all must go on from
    # the same step, and take part in the digest or not.
    problem = _agreed(problem)
    if problem is None and pytrees.sha256(state) != meta["state_sha256"]:
      problem = "its bytes are not those that were saved (SHA-256 differs)"
    problem = _agreed(problem)
    return (state, meta, None) if problem is None else (None, None, problem)

  def _read_record(self, step: int) -> dict:
    """What `save` wrote beside the state; raises if it was changed since."""
    record = self._manager.restore(
      step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    ).meta
    if record["meta_sha256"] != _digest(record["meta"], record["value"]):
      raise ValueError("meta is not what was saved (SHA-256 differs)")
    return record

  def _note_value(self, step: int, value: float | None) -> None:
    self._values.pop(step, None)
    if value is not None:
      self._values[step] = value

  def _delete(self, step: int) -> None:
    self._manager.delete(step)
    self._bad.discard(step)
    self._values.pop(step, None)
    self._saved.pop(step, None)

  def _delete_leftovers(self) -> None:
    """Removes what a killed save has left, before this run's first save.

    Not on opening: a reader must not delete what a run is writing.
    """
    if not self._cleaned and jax.process_index() == 0:
      for path in self._folder.glob(f"*{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)
    self._cleaned = True


class _WithoutDroppedReads:
  """Reports what Python could not raise, but not on reads that nobody waits for."""

  def __init__(self, before):
    self._before = before

  def __call__(self, report) -> None:
    dropped = ("Event loop is closed", "Encountered error while reading array index")
    if not str(report.exc_value).startswith(dropped):
      self._before(report)


def _pass_over_dropped_reads() -> None:
  """Orbax drops the reads beside one that failed; they end and report at any time."""
  if not isinstance(sys.unraisablehook, _WithoutDroppedReads):
    sys.unraisablehook = _WithoutDroppedReads(sys.unraisablehook)


class _Best(checkpoint_managers.PreservationPolicy):
  """Keeps the best step. Orbax's BestN takes NaN for a number, and the last of ties."""

  def __init__(self, checkpoints: Checkpoints):
    self._values = checkpoints._values

  def should_preserve(self, checkpoints: Sequence, *, context) -> list[bool]:
    steps = sorted(int(info.step) for info in checkpoints if info.step in self._values)
    best = max(steps, key=self._values.__getitem__, default=None)
    return [info.step == best for info in checkpoints]


def _agreed(problem: str | None) -> str | None:
  """The problem of this process, or that another has one."""
  if jax.process_count() > 1:
    wrong = multihost_utils.process_allgather(np.array(problem is not None))
    if wrong.any() and problem is None:
      return "damaged for another process"
  return problem


def _digest(meta: dict, value: float | None) -> str:
  return hashlib.sha256(json.dumps([meta, value], sort_keys=True).encode()).hexdigest()

"""A run, from top to bottom: assemble, claim, restore, loop, choose, write."""

import importlib.metadata
import json
import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ssljax import config as configuration
from ssljax.data import prepare
from ssljax.data.datasets import EvalSet
from ssljax.errors import INTERRUPTED, TERMINATED, RunError, UserError
from ssljax.evals import evaluation, runs
from ssljax.evals.classification import classification
from ssljax.evals.predictions import write_predictions
from ssljax.evals.report import html, page
from ssljax.inference import score
from ssljax.runtime import json_files
from ssljax.runtime.progress import Progress
from ssljax.training import checkpoint, metrics, preview, pytrees, step
from ssljax.training.assemble import Job, assemble
from ssljax.training.timing import StepTimer

WORK = 60.0  # seconds of work that a kill may cost where checkpoint_every is 0
IDLE = "no pseudo-label counted at any step (mask_rate 0); see steps and threshold"
LOGS = (".log", ".txt", ".out", ".err")
EVALUATED = ("validation", "test")
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


def run(config: dict[str, Any], workdir: Path) -> int:
  """Trains as `config` says (see configs/base.py) and leaves the results in `workdir`.

  A workdir that holds the same run is continued, to the same bits.

  Returns:
    The exit code: 0 finished, 143 or 130 saved after SIGTERM or SIGINT.

  Raises:
    UserError: before anything is written, for whatever the user can mend.
    RunError: a loss that is not finite.
  """
  leader = jax.process_index() == 0
  note = _printer(leader)
  asked = json.loads(json.dumps({**config, "data": prepare.in_cache(config["data"])}))
  # One run to a workdir.
  _claim(workdir, asked)
  finished = None if config["dry_run"] else _finished(workdir)
  if finished:
    note(f"{workdir} holds this run, finished: {_summary(finished)}")
    if leader and not (workdir / "report.html").exists():
      _report(workdir, note)
    return 0
  job = assemble(config)
  config, data, steps = job.config, job.data, job.steps
  for line in (*data.notes, *preview.summary(job)):
    note(line)

  _claim(workdir, job.resolved)  # of the same data, too
  if config["dry_run"]:
    for line in preview.dry_run(job):
      note(line)
    return 0
  _together("looked")  # before anybody writes
  if leader:
    try:
      workdir.mkdir(parents=True, exist_ok=True)
      json_files.write_json(workdir / "config.json", job.resolved)
    except OSError as error:
      raise UserError(
        f"--workdir={workdir}: cannot be written ({error}); name another folder"
      ) from error
  _together("claimed")
  note(f"workdir {workdir}")

  # The state: of the newest good checkpoint, else pretrained.
  saved = checkpoint.Checkpoints(workdir / "checkpoints")
  restored = saved.restore(job.state)
  for line in saved.notes:
    note(line)
  if restored:
    state, meta, start = restored
    note(f"resumed at step {start}")
  else:
    state = job.first()
    meta, start = {"best": None, "stale": 0, "seconds": 0.0, "window": []}, 0
  writer = metrics.Writer(workdir, start if restored else None, leader)
  progress = Progress(steps["steps"], "step", initial=start, active=leader)
  timer = StepTimer(meta["window"])
  stop = _Signals()
  began = time.perf_counter() - meta["seconds"]
  seen: set[str] = set()
  saved_at, every = start, config["checkpoint_every"]
  best, stale, stopped = meta["best"], meta["stale"], meta.get("stopped", False)

  def save(value: float | None) -> None:
    _finite(timer.fetch(), saved, workdir)
    kept = {
      "best": best,
      "stale": stale,
      "stopped": stopped,
      "seconds": time.perf_counter() - began,
      "window": timer.values,
    }
    saved.save(t, state, kept, value)

  def report() -> None:
    done = list(timer.fetch())
    line = timer.line()
    writer.write(t, "train", line)  # of a loss that is not finite, too
    _finite(done, saved, workdir)
    # After a resume, `done` begins with steps of the earlier process.
    progress.update(min(len(done), t - start), {"loss": line["loss"]})

  # The loop. A step is sent off before the one before it has ended.
  t = start
  stream = job.batches.iterate(start, steps["steps"], job.devices.mine)
  while t < steps["steps"] and not stopped:
    batch, hidden = next(stream)
    shape, counts = preview.shape_of(batch), _counts(batch)
    fresh = shape not in seen
    if fresh:
      timer.pause()
    state, values = job.train_step(state, *job.put(batch, hidden))
    t += 1
    timer.add(values, {"step": t, **counts})
    if fresh:
      seen.add(shape)
      timer.pause()
      timer.resume()

    if t % config["log_every"] == 0 or t == steps["steps"]:
      report()
    if not every and timer.first_seconds is not None:
      every = _agreed(max(1, int(WORK / timer.first_seconds)))

    value = None
    if t % steps["eval_every"] == 0 or t == steps["steps"]:
      timer.pause()
      _finite(timer.fetch(), saved, workdir)
      found = classification(_score(job, state, data.validation), data.validation.label)
      writer.write(t, "validation", found)
      value = found[config["select"]]
      shown = "undefined" if value is None else f"{value:.4f}"
      progress.note(f"step {t}: validation {config['select']} {shown}")
      if value is not None and (best is None or value > best):
        best, stale = value, 0
      else:
        stale, value = stale + 1, None
      stopped = bool(config["patience"]) and stale >= config["patience"]
      if stopped and timer.values:  # the last step has a line, whichever it is
        report()
      timer.resume()

    signalled = stop.at(t)
    due = every and t - saved_at >= every
    if value is not None or due or signalled or stopped or t == steps["steps"]:
      timer.pause()
      save(value)
      saved_at = t
      timer.resume()
    if signalled and t < steps["steps"] and not stopped:
      saved.wait()
      progress.close()
      writer.close()
      note(f"stopped by a signal at step {t}, saved; the same command goes on")
      return signalled

  # The chosen step, evaluated on test.
  progress.close()
  saved.wait()
  final = {
    "params_sha256": pytrees.sha256(state.params),
    "state_sha256": pytrees.sha256(state),
  }
  seconds = time.perf_counter() - began
  chosen = t
  if saved.best_step() is None:
    lacking = "was never defined on validation"
    if best is not None:
      lacking = f"was {best:.4f} at best, but that checkpoint is damaged"
    note(f"{config['select']} {lacking}: the last step is used")
  elif saved.best_step() != t:
    state, chosen = saved.restore_best(job.state)
    for line in saved.notes:
      note(line)
  logits = {name: _score(job, state, getattr(data, name)) for name in EVALUATED}
  found = evaluation.of_run(
    *(
      evaluation.scored(part.rows, logits[name], part.tokens.truncated)
      for name, part in (("validation", data.validation), ("test", data.test))
    )
  )
  result = {
    "method": configuration.method_name(config),
    "step": chosen,
    "steps": t,
    "seed": config["seed"],
    "labels": config["labels"],
    "seconds": seconds,
    "examples_per_second": t * (job.sizes.batch + job.sizes.unlabelled_batch) / seconds,
    "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    **final,
    **found,
  }
  writer.write(t, "test", classification(logits["test"], data.test.label))
  writer.close()
  saved.close()
  if leader:
    for name in EVALUATED:
      path = workdir / "predictions" / f"{name}.parquet"
      rows = getattr(data, name).rows
      write_predictions(path, rows, logits[name], found["temperature"])
    json_files.write_json(workdir / "result.json", result)
    _report(workdir, note)
    if runs.idle(workdir):
      note(IDLE)
  _together("finished")
  note(_summary(result))
  note(f"results in {workdir}")
  return 0


class _Signals:
  """SIGTERM and SIGINT, heeded between two steps; a second SIGINT at once."""

  def __init__(self):
    self.code = 0
    if jax.process_count() == 1:
      signal.signal(signal.SIGTERM, self._heard)
    signal.signal(signal.SIGINT, self._heard)

  def _heard(self, number, frame):
    if number == signal.SIGINT:
      signal.signal(signal.SIGINT, signal.default_int_handler)
      if jax.process_count() > 1:
        os.kill(os.getpid(), signal.SIGTERM)  # which all processes agree on
        return
    self.code = TERMINATED if number == signal.SIGTERM else INTERRUPTED

  def at(self, t: int) -> int:
    """The exit code if all processes are to stop after step t, else 0."""
    if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(t):
      return TERMINATED
    return self.code


def _report(workdir: Path, note: Callable[[str], None]) -> None:
  """Writes report.html; the run is none the worse where that fails."""
  try:
    html.write(workdir / "report.html", page.of_run(runs.read(workdir)))
  except Exception as error:  # whatever: hours of training stand behind it
    note(
      f"report.html was not written ({error!r}); try python -m ssljax.report {workdir}"
    )


def _finished(workdir: Path) -> dict[str, Any] | None:
  """The result of a run that has one, whole; needs no data, no encoder."""
  try:
    return json.loads((workdir / "result.json").read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return None


def _claim(workdir: Path, config: Mapping[str, Any]) -> None:
  """Refuses a folder that holds anything but this run.

  Args:
    config: with or without what follows from the data.

  Raises:
    UserError: names what differs.
  """
  if not (workdir / "config.json").exists():
    # What a kill has left of an unwritten file, and a log, are in nobody's way.
    if workdir.exists() and (
      not workdir.is_dir()
      or any(p.name[0] != "." and p.suffix not in LOGS for p in workdir.iterdir())
    ):
      raise UserError(
        f"--workdir={workdir} exists and holds no run of ssljax; choose another folder"
      )
    return
  there = configuration.read(workdir)
  if "resolved" not in config:
    there.pop("resolved")
  changed = configuration.difference(there, config)
  if changed:
    raise UserError(
      f"--workdir={workdir} holds another run ({'; '.join(changed[:6])}"
      f"{'; …' if len(changed) > 6 else ''}); choose another folder, or that config"
    )


def _finite(done: list[dict[str, float]], saved, workdir: Path) -> None:
  """Raises RunError at the first step whose loss or update is not finite."""
  for values in done:
    # A loss is of the parameters before its step: those after it count, too.
    if not all(math.isfinite(values[n]) for n in ("loss", "update_norm")):
      saved.wait()
      good = saved.latest_step()
      kept = "no checkpoint yet" if good is None else f"checkpoint of step {good} kept"
      raise RunError(
        f"the loss is {values['loss']} at step {values['step']:.0f} and its update "
        f"{values['update_norm']} ({kept} in {workdir}); lower "
        "--config.learning_rate or set --config.clip=1, in another --workdir"
      )


def _counts(batch) -> dict[str, float]:
  """Texts that a step reads, their tokens, and the tokens of its rows."""
  real, rows = preview.real_tokens(batch)
  texts = len(batch.labelled.index) + len(batch.unlabelled.index)
  return {"texts": texts, "tokens": real, "row_tokens": rows}


def _score(job: Job, state: step.TrainState, part: EvalSet) -> np.ndarray:
  """Logits of a set; of the parameters' average where there is one."""
  params = state.params if state.ema is None else state.ema
  lengths = score.choose_row_lengths(job.batches.choice.row_lengths[-1])
  return score.score(job.eval_step, params, part.tokens, lengths, job.devices)


def _agreed(value: int) -> int:
  if jax.process_count() == 1:
    return value
  return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def _together(name: str) -> None:
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def _printer(leader: bool):
  return (lambda line: print(line, flush=True)) if leader else (lambda line: None)


def _summary(result: Mapping[str, Any]) -> str:
  test = result["test"]
  shown = ", ".join(
    f"{name} {test[name]:.3f}"
    for name in ("f1", "macro_f1", "accuracy", "auroc")
    if test[name] is not None
  )
  return f"test ({result['method']}, step {result['step']}): {shown}"

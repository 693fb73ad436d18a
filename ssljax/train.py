"""A training run from top to bottom: build, restore, loop, choose, evaluate, write."""

import importlib.metadata
import json
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ssljax import run_config
from ssljax.config import method_name
from ssljax.data.datasets import EvalSet
from ssljax.data.sources.build import resolve_data
from ssljax.errors import TERMINATED, RunError
from ssljax.evals import evaluation, runs
from ssljax.evals.classification import classification_metrics
from ssljax.evals.predictions import write_predictions
from ssljax.evals.report import html, run_page
from ssljax.inference import score
from ssljax.runtime.json_files import write_json
from ssljax.runtime.progress import Progress
from ssljax.runtime.signals import StopSignals
from ssljax.training import checkpoint, metrics, preview, pytrees, step
from ssljax.training import workdir as folder
from ssljax.training.assemble import TrainingJob, assemble
from ssljax.training.timing import StepTimer

CHECKPOINT_SECONDS = 60.0  # of work that a kill may cost, if checkpoint_every is 0
IDLE = "no pseudo-label counted at any step (mask_rate 0); see steps and threshold"
EVALUATED = ("validation", "test")
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


def run(config: dict[str, Any], workdir: Path) -> int:
  """Trains a classifier and writes the results to `workdir`.

  If `workdir` holds the same run, it is continued, bit for bit.

  Args:
    config: all keys of `config.Keys`.
    workdir: docs/runs.md lists what a run writes there.

  Returns:
    The exit code: 0 finished; 143 or 130 saved after SIGTERM or SIGINT.

  Raises:
    UserError: a mistake in config or data, before anything is written.
    RunError: a loss that is not finite.
  """
  leader = jax.process_index() == 0
  note = _printer(leader)
  config, kept = run_config.continued(workdir, config)
  for line in kept:
    note(line)
  requested = {**config, "data": resolve_data(config["data"])}
  folder.claim(workdir, json.loads(json.dumps(requested)))
  result = None if config["dry_run"] else folder.read_result(workdir)
  if result:
    note(f"{workdir} holds this run, finished: {folder.summary(result)}")
    if leader and not (workdir / "report.html").exists():
      _write_report(workdir, note)
    return 0

  # Read the data, build model, method and compiled steps.
  job = assemble(config)
  config, data, steps = job.config, job.data, job.steps
  for line in (*data.notes, *preview.summary(job)):
    note(line)
  folder.claim(workdir, job.resolved)  # now the data must be the same as well
  if config["dry_run"]:
    for line in preview.dry_run(job):
      note(line)
    return 0
  _barrier("claimed")  # before any process writes
  if leader:
    folder.start(workdir, job.resolved)
  _barrier("started")
  note(f"workdir {workdir}")

  # The state: from the newest good checkpoint, otherwise the pretrained one.
  checkpoints = checkpoint.Checkpoints(workdir / "checkpoints")
  restored = checkpoints.restore(job.state)
  for line in checkpoints.notes:
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
  began = time.perf_counter() - meta["seconds"]
  compiled: set[str] = set()  # shapes of batches
  saved_at, save_every = start, config["checkpoint_every"]
  best, stale, stopped = meta["best"], meta["stale"], meta.get("stopped", False)

  def save(value: float | None) -> None:
    _require_finite(timer.fetch(), checkpoints, workdir)
    meta = {
      "best": best,
      "stale": stale,
      "stopped": stopped,
      "seconds": time.perf_counter() - began,
      "window": timer.values,
    }
    checkpoints.save(t, state, meta, value)

  def report() -> None:
    values = list(timer.fetch())
    line = timer.line()
    writer.write(t, "train", line)  # also if the loss is not finite
    _require_finite(values, checkpoints, workdir)
    # After a resume, `values` begins with steps of the earlier process.
    progress.update(min(len(values), t - start), {"loss": line["loss"]})

  # The loop. Each step is dispatched before the previous one has finished.
  t = start
  batches = job.batches.iterate(start, steps["steps"], job.devices.mine)
  # A signal after the last step doesn't stop the run: it writes the results.
  with _stop_signals() as stop:
    while t < steps["steps"] and not stopped:
      batch, hidden = next(batches)
      shape, counts = preview.shape_of(batch), _token_counts(batch)
      new_shape = shape not in compiled
      if new_shape:
        timer.pause()
      state, values = job.train_step(state, *job.put(batch, hidden))
      t += 1
      timer.add(values, {"step": t, **counts})
      if new_shape:
        compiled.add(shape)
        timer.pause()
        timer.resume()

      if t % config["log_every"] == 0 or t == steps["steps"]:
        report()
      if not save_every and timer.first_seconds is not None:
        save_every = _agreed(max(1, int(CHECKPOINT_SECONDS / timer.first_seconds)))

      value = None
      if t % steps["eval_every"] == 0 or t == steps["steps"]:
        timer.pause()
        _require_finite(timer.fetch(), checkpoints, workdir)
        scores = classification_metrics(
          _score(job, state, data.validation), data.validation.label
        )
        writer.write(t, "validation", scores)
        value = scores[config["select"]]
        shown = "undefined" if value is None else f"{value:.4f}"
        progress.note(f"step {t}: validation {config['select']} {shown}")
        if value is not None and (best is None or value > best):
          best, stale = value, 0
        else:
          stale, value = stale + 1, None
        stopped = bool(config["patience"]) and stale >= config["patience"]
        if stopped and timer.values:  # the last step always has a line
          report()
        timer.resume()

      exit_code = _exit_code(stop, t)
      due = save_every and t - saved_at >= save_every
      if value is not None or due or exit_code or stopped or t == steps["steps"]:
        timer.pause()
        save(value)
        saved_at = t
        timer.resume()
      if exit_code and t < steps["steps"] and not stopped:
        checkpoints.wait()
        progress.close()
        writer.close()
        note(f"stopped by a signal at step {t} and saved; run the command to continue")
        return exit_code

    # Choose a checkpoint by validation, evaluate it on test.
    progress.close()
    checkpoints.wait()
    hashes = {
      "params_sha256": pytrees.sha256(state.params),
      "state_sha256": pytrees.sha256(state),
    }
    seconds = time.perf_counter() - began
    batch_size = job.sizes.batch + job.sizes.unlabelled_batch
    chosen = t
    if checkpoints.best_step() is None:
      reason = "was never defined on validation"
      if best is not None:
        reason = f"was {best:.4f} at best, but that checkpoint is damaged"
      note(f"{config['select']} {reason}: using the last step")
    elif checkpoints.best_step() != t:
      state, chosen = checkpoints.restore_best(job.state)
      for line in checkpoints.notes:
        note(line)
    logits = {name: _score(job, state, getattr(data, name)) for name in EVALUATED}
    evaluated = evaluation.run_metrics(
      *(
        evaluation.ScoredTexts.from_records(
          split.rows, logits[name], split.tokens.truncated
        )
        for name, split in (("validation", data.validation), ("test", data.test))
      )
    )
    result = {
      "method": method_name(config),
      "step": chosen,
      "steps": t,
      "seed": config["seed"],
      "labels": config["labels"],
      "seconds": seconds,
      "examples_per_second": t * batch_size / seconds,
      "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
      "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
      **hashes,
      **evaluated,
    }
    writer.write(t, "test", classification_metrics(logits["test"], data.test.label))
    writer.close()
    checkpoints.close()
    if leader:
      for name in EVALUATED:
        path = workdir / "predictions" / f"{name}.parquet"
        rows = getattr(data, name).rows
        write_predictions(path, rows, logits[name], evaluated["temperature"])
      write_json(workdir / "result.json", result)
      _write_report(workdir, note)
      if runs.used_no_pseudo_labels(workdir):
        note(IDLE)
    _barrier("finished")
    note(folder.summary(result))
    note(f"results in {workdir}")
    return 0


def _stop_signals() -> StopSignals:
  """SIGINT and SIGTERM stop the loop after the current step.

  With several processes, JAX handles SIGTERM and lets all processes agree on a step;
  SIGINT is passed on as SIGTERM.
  """
  if jax.process_count() == 1:
    return StopSignals()
  return StopSignals(
    on_stop=lambda: os.kill(os.getpid(), signal.SIGTERM), signals=(signal.SIGINT,)
  )


def _exit_code(stop: StopSignals, t: int) -> int:
  """The exit code if all processes are to stop after step `t`, otherwise 0."""
  if jax.process_count() > 1:
    return TERMINATED if multihost_utils.reached_preemption_sync_point(t) else 0
  return stop.code


def _write_report(workdir: Path, note: Callable[[str], None]) -> None:
  """Writes report.html; a failure here must not cost the run its results."""
  try:
    page = run_page.render_run(runs.read_run(workdir))
    html.write_report(workdir / "report.html", page)
  except Exception as error:
    note(f"report.html was not written ({error!r}); try: ssljax report {workdir}")


def _require_finite(
  steps: list[dict[str, float]], checkpoints: checkpoint.Checkpoints, workdir: Path
) -> None:
  """Raises RunError at the first step whose loss or update is not finite."""
  for values in steps:
    # A step's loss belongs to the parameters before its update: check both.
    if not all(math.isfinite(values[n]) for n in ("loss", "update_norm")):
      checkpoints.wait()
      good = checkpoints.latest_step()
      kept = "no checkpoint yet" if good is None else f"checkpoint of step {good} kept"
      raise RunError(
        f"the loss is {values['loss']} at step {values['step']:.0f} and its update "
        f"{values['update_norm']} ({kept} in {workdir}); lower "
        "--config.learning_rate or set --config.clip=1, in another --workdir"
      )


def _token_counts(batch) -> dict[str, float]:
  """How many texts a step reads, their tokens, and the tokens of its rows."""
  tokens, row_tokens = preview.real_tokens(batch)
  texts = len(batch.labelled.index) + len(batch.unlabelled.index)
  return {"texts": texts, "tokens": tokens, "row_tokens": row_tokens}


def _score(job: TrainingJob, state: step.TrainState, data: EvalSet) -> np.ndarray:
  """Logits of a set, from the averaged parameters if there are any."""
  params = state.params if state.ema is None else state.ema
  lengths = score.choose_row_lengths(job.batches.choice.row_lengths[-1])
  return score.score(job.eval_step, params, data.tokens, lengths, job.devices)


def _agreed(value: int) -> int:
  """The first process's value, on all processes."""
  if jax.process_count() == 1:
    return value
  return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def _barrier(name: str) -> None:
  """Waits for all processes."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def _printer(leader: bool) -> Callable[[str], None]:
  return (lambda line: print(line, flush=True)) if leader else (lambda line: None)

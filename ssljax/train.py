"""A training run from top to bottom: build, restore, loop, choose, evaluate, write."""

import contextlib
import importlib.metadata
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ssljax import methods, run_config
from ssljax.config import method_name
from ssljax.data.datasets import EvalSet
from ssljax.data.sources.build import resolve_data
from ssljax.errors import TERMINATED, RunError
from ssljax.evals import evaluation, filtering, runs
from ssljax.evals.classification import classification_metrics, ranking_warning
from ssljax.evals.predictions import write_predictions
from ssljax.evals.report import html, run_page
from ssljax.evals.scored import ScoredTexts
from ssljax.inference import score
from ssljax.runtime import lock
from ssljax.runtime.atomic import FULL
from ssljax.runtime.commit import current_commit
from ssljax.runtime.json_files import write_json
from ssljax.runtime.progress import Progress
from ssljax.training import (
  checkpoint,
  metrics,
  preview,
  profiling,
  pytrees,
  step,
  together,
  trackers,
)
from ssljax.training import workdir as folder
from ssljax.training.assemble import TrainingJob, assemble
from ssljax.training.compiling import announced
from ssljax.training.timing import StepTimer

CHECKPOINT_SECONDS = 60.0  # a kill may cost this much work if checkpoint_every is 0
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


def run(config: dict[str, Any], workdir: Path) -> int:
  """Trains a classifier and writes the results to `workdir`.

  If `workdir` holds the same run, the run is continued with bit-identical results.

  Args:
    config: all keys of `config.Keys`.
    workdir: folder of the run; docs/runs.md lists its files.

  Returns:
    The exit code: 0 if the run is finished; 143 or 130 if SIGTERM or SIGINT stopped it
    and its state was saved.

  Raises:
    UserError: the config or the data has a mistake, or another process is training in
      `workdir`; nothing is written.
    RunError: the loss or an update is not finite, or the disk is full.
  """
  folder.check_path(workdir)
  writes = not (config["dry_run"] or folder.read_result(workdir))
  with together.locked(workdir) if writes else contextlib.nullcontext():
    return _run(config, workdir)


def _run(config: dict[str, Any], workdir: Path) -> int:
  leader = jax.process_index() == 0
  commit = current_commit()  # before the files can change

  def note(*lines: str) -> None:
    if leader and lines:
      print(*lines, sep="\n", flush=True)

  preset = run_config.preset_values(config)
  config, kept = run_config.continued(workdir, run_config.complete(config))
  note(*filter(None, [preset]), *kept)
  placed = {**config, "data": resolve_data(config["data"])}
  folder.claim(workdir, placed)
  result = None if config["dry_run"] else folder.read_result(workdir)

  def finish() -> int:
    note(f"{workdir} already holds this run, finished: {folder.summary(result)}")
    if leader and not (workdir / "report.html").exists():
      _write_report(workdir, note)
    return 0

  if result and run_config.at_same_places(workdir, placed):
    return finish()

  # Read the data, build model, method and compiled steps.
  job = assemble(config)
  config, data, steps = job.config, job.data, job.steps
  folder.claim(workdir, job.resolved)  # now the data must be the same as well
  if result:
    return finish()
  note(*data.notes, *preview.summary(job))
  if config["dry_run"]:
    note(*preview.dry_run(job))
    return 0
  multihost_utils.sync_global_devices("claimed")  # before any process writes
  with together.errors_of_first(workdir):
    if leader:
      folder.start(workdir, job.resolved)
  note(f"workdir {workdir}")

  # Restore the newest intact checkpoint, or start from the pretrained encoder.
  checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", clean=True)
  restored = checkpoints.restore(job.state)
  note(*checkpoints.notes)
  if restored:
    state, meta, start = restored
    note(f"resumed at step {start}")
  else:
    state = job.first()
    meta, start = {"best": None, "stale": 0, "seconds": 0.0, "window": []}, 0
  tracked = trackers.Trackers(job.resolved, workdir, note)
  writer = metrics.Writer(workdir, start, leader, tracked.line)
  progress = Progress(steps["steps"], "step", initial=start, active=leader)
  timer = StepTimer(meta["window"], job.flops.peak)
  remaining = range(start, steps["steps"])
  profile = profiling.Trace(config["profile"], workdir, remaining, note, timer.fetch)
  began = time.perf_counter() - meta["seconds"]
  texts = job.sizes.batch + job.sizes.unlabelled_batch  # per step
  compiled: set[str] = set()  # shapes of batches
  usual_tokens = (job.batches.usual_tokens or 0) * len(job.devices.mine)
  saved_at, save_every = start, config["checkpoint_every"]
  verified = restored is not None  # whether this folder's checkpoints can be read
  best, stale, stopped = meta["best"], meta["stale"], meta.get("stopped", False)

  def save(value: float | None) -> None:
    nonlocal verified
    _require_finite(timer.fetch(), checkpoints, workdir)
    meta = {
      "best": best,
      "stale": stale,
      "stopped": stopped,
      "seconds": time.perf_counter() - began,
      "window": timer.values,
    }
    checkpoints.save(t, state, meta, value)
    if not verified:
      checkpoints.verify(t, job.state)
      verified = True

  def report() -> None:
    checkpoints.check()
    values = timer.fetch()
    timer.pause()
    line = timer.line() | job.logged(state.params, t)
    writer.write(t, "train", line)  # even if the loss is not finite
    _require_finite(values, checkpoints, workdir)
    # After a resume, `values` begins with steps of the earlier process.
    progress.update(min(len(values), t - start), {"loss": line["loss"]})
    timer.resume()

  # The loop. Each step is dispatched before the previous one has finished.
  t = start
  batches = job.batches.iterate(start, steps["steps"], job.devices.mine)
  # A signal after the last step doesn't stop the run: results are still written.
  with (
    _full_disks(checkpoints, workdir),
    together.stop_signals() as stop,
    tracked,
    profile,
  ):
    while t < steps["steps"] and not stopped:
      batch, hidden = next(batches)
      shape, (tokens, row_tokens) = preview.shape_of(batch), preview.real_tokens(batch)
      if shape not in compiled:
        timer.pause()
      with announced(job, shape, compiled, progress.note), profile.step(t):
        state, values = job.train_step(state, *job.put(batch, hidden))
      t += 1
      counts = {"step": t, "texts": texts, "tokens": tokens, "row_tokens": row_tokens}
      counts |= job.flops.logged(batch)
      if usual_tokens:
        counts["overflow"] = float(row_tokens > usual_tokens)
      timer.add(values, counts)
      if shape not in compiled:
        compiled.add(shape)
        timer.pause()
        timer.resume()

      if t % config["log_every"] == 0 or t == steps["steps"]:
        report()
      if not save_every and timer.first_seconds is not None:
        save_every = max(1, int(CHECKPOINT_SECONDS / timer.first_seconds))
        save_every = int(multihost_utils.broadcast_one_to_all(np.int32(save_every)))

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
        if stopped and timer.values:  # so that the last step always has a line
          report()
        timer.resume()

      exit_code = stop.code
      if jax.process_count() > 1:  # all processes stop after the same step
        preempted = multihost_utils.reached_preemption_sync_point(t)
        exit_code = TERMINATED if preempted else 0
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

    # Choose a checkpoint on validation, and evaluate it on test.
    progress.close()
    checkpoints.wait()
    hashes = {
      "params_sha256": pytrees.sha256(state.params),
      "state_sha256": pytrees.sha256(state),
    }
    seconds, chosen = time.perf_counter() - began, t
    if checkpoints.best_step() is None:
      reason = "was never defined on validation"
      if best is not None:
        reason = f"was {best:.4f} at best, but that checkpoint is damaged"
      note(f"{config['select']} {reason}: using the last step")
    elif checkpoints.best_step() != t:
      state, chosen = checkpoints.restore_best(job.state)
      note(*checkpoints.notes)
    splits = {"validation": data.validation, "test": data.test}
    if data.calibration is not None:
      splits["calibration"] = data.calibration
    logits = {name: _score(job, state, split) for name, split in splits.items()}
    texts_of = {
      name: ScoredTexts.from_records(split.rows, logits[name], split.tokens.truncated)
      for name, split in splits.items()
    }
    evaluated = evaluation.run_metrics(**texts_of, aims=config["aims"])
    result = {
      "method": method_name(config),
      "step": chosen,
      "steps": t,
      "seed": config["seed"],
      "labels": config["labels"],
      "seconds": seconds,
      "examples_per_second": t * texts / seconds,
      "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
      "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
      "commit": commit,
      **hashes,
      **evaluated,
    }
    writer.write(t, "test", classification_metrics(logits["test"], data.test.label))
    writer.close()
    checkpoints.close()
    if leader:
      filters = methods.make(config["method"]).needs.filters
      result["pseudo_labels"] = used = filtering.pseudo_labels(workdir, filters)
      note(*filter(None, [used and used["warning"]]))
    named = ("validation", "test")
    note(*filter(None, (ranking_warning(evaluated[name], name) for name in named)))
    with together.errors_of_first(workdir):
      for name, split in splits.items() if leader else ():
        path = workdir / "predictions" / f"{name}.parquet"
        write_predictions(path, split.rows, logits[name], evaluated["temperature"])
      if leader:
        write_json(workdir / "result.json", result)
        tracked.result(result)
        _write_report(workdir, note)
    note(folder.summary(result), f"results in {workdir}")
    return 0


@contextlib.contextmanager
def _full_disks(checkpoints: checkpoint.Checkpoints, workdir: Path) -> Iterator[None]:
  """Turns the errors of full disks into a RunError that says what is kept."""
  try:
    yield
  except OSError as error:
    if error.errno not in FULL:
      raise
    checkpoints.wait()
    raise RunError(
      f"{error.filename or workdir}: cannot be written ({error.strerror};"
      f" {checkpoints.kept()}); free some space and run the same command to continue"
    ) from error


def _write_report(workdir: Path, note: Callable[..., None]) -> None:
  """Writes report.html; only a full disk may end the run, which has its results."""
  try:
    page, path = run_page.render_run(runs.read_run(workdir)), workdir / "report.html"
    with lock.exclusive(path, "--output"):  # `ssljax report` writes it as well
      html.write_report(path, page)
  except Exception as error:
    if getattr(error, "errno", None) in FULL:
      raise
    note(f"report.html was not written ({error!r}); try: ssljax report {workdir}")


def _require_finite(
  steps: list[dict[str, float]], checkpoints: checkpoint.Checkpoints, workdir: Path
) -> None:
  """Raises RunError at the first step whose loss or update is not finite."""
  for values in steps:
    # A step computes its loss before it updates the parameters: check both.
    if not all(math.isfinite(values[n]) for n in ("loss", "update_norm")):
      checkpoints.wait()
      raise RunError(
        f"the loss is {values['loss']} at step {values['step']:.0f}, and the norm of "
        f"the update is {values['update_norm']} ({checkpoints.kept()} in {workdir}); "
        "lower --config.learning_rate or set --config.clip=1, and use another --workdir"
      )


def _score(job: TrainingJob, state: step.TrainState, data: EvalSet) -> np.ndarray:
  """The logits of a set, computed with averaged parameters if there are any."""
  params = state.params if state.ema is None else state.ema
  lengths = score.choose_row_lengths(job.batches.rows.row_lengths[-1])
  name = lambda i: f"id {data.rows.column('id')[i]}"
  return score.score(
    job.eval_step, params, data.tokens, lengths, job.devices, name=name
  )

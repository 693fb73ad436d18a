"""A run, from top to bottom: read, build, restore, loop, evaluate, write."""

import importlib.metadata
import json
import math
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ssljax import assets, build, checkpoint, metrics, scoring, sharding, step
from ssljax import config as configuration
from ssljax.data import loader, prepare, sets
from ssljax.errors import INTERRUPTED, TERMINATED, RunError, UserError
from ssljax.evals.classification import classification
from ssljax.evals.predictions import write_predictions
from ssljax.method import Sizes
from ssljax.window import Window

WORK = 60.0  # seconds of work that a kill may cost where checkpoint_every is 0
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
  # Config and data are checked before weights are looked up.
  configuration.check(config)
  method = build.make_method(config)
  config["data"] = prepare.in_cache(config["data"])
  devices = sharding.make_devices(config["parallel"], config["fsdp"])
  _compile_cache()
  data = sets.load(config, method.needs)
  folder = data.encoder
  classes, rows = len(data.labels), len(data.train.hidden)
  steps = configuration.steps_of(config, len(data.train.label))
  unlabelled_batch = config["batch"] * config["unlabelled_ratio"] if rows else 0
  if method.needs.views and not rows:
    raise UserError(
      f"{config['method']['name']} learns from unlabelled texts, but there are none "
      f"(--config.labels={config['labels']}); lower labels, or train "
      "configs/supervised.py"
    )
  model = build.make_model(config, method, folder, classes)
  sizes = Sizes(
    classes,
    len(data.train.label),
    rows,
    config["batch"],
    unlabelled_batch,
    steps["steps"],
    steps["epoch_steps"],
  )
  every_set = [*data.train.labelled.values(), *data.train.unlabelled.values()]
  longest = max(int(v.tokens.lengths.max(initial=1)) for v in every_set)
  packed = config["layout"] == "packed"
  lengths = loader.row_lengths(longest, config["max_length"], packed)
  batches = loader.Loader(
    data.train,
    batch=config["batch"],
    unlabelled_batch=unlabelled_batch,
    classes=classes + method.needs.virtual_classes,
    seed=config["seed"],
    steps=steps["steps"],
    layout=loader.Layout(devices.shards, config["accumulation"], lengths, packed),
  )
  params = build.init_params(model, folder, config["seed"])
  optimizer = build.make_optimizer(config, params, steps)
  parts = build.Parts(model, method, optimizer, sizes)
  abstract = jax.eval_shape(lambda p: build.first_state(config, parts, p), params)
  shardings = sharding.state_shardings(abstract, devices)

  leader = jax.process_index() == 0
  note = _printer(leader)
  for line in data.notes:
    note(line)
  for line in _describe(config, data, steps, lengths, devices, every_set):
    note(line)

  # One run to a workdir.
  resolved = json.loads(json.dumps(config)) | {
    "resolved": {
      "labels": list(data.labels),
      "sizes": sizes._asdict(),
      "row_lengths": list(lengths),
      "data_sha256": data.sha256,
      **steps,
    }
  }
  finished = _claim(workdir, resolved)
  if finished:
    note(f"{workdir} holds this run, finished: {_summary(finished)}")
    return 0

  train_step = sharding.compile_train_step(
    step.make_train_step(
      model=model,
      method=method,
      optimizer=optimizer,
      sizes=sizes,
      ema=config["ema"],
      micro=config["accumulation"],
      weak_dropout=config["weak_dropout"],
      axis="data" if config["parallel"] == "pmap" else None,
    ),
    devices,
    shardings,
    config["accumulation"] > 1,
  )
  eval_step = jax.jit(
    step.make_eval_step(model=model, method=method), out_shardings=devices.replicated
  )
  if config["dry_run"]:
    state = build.first_state(config, parts, params)
    for line in _plan(batches, train_step, state, devices, config["accumulation"] > 1):
      note(line)
    return 0

  # The state: of the newest good checkpoint, else pretrained.
  if leader:
    workdir.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(workdir / "config.json", resolved)
  _together("claimed")
  note(f"workdir {workdir}")
  saved = checkpoint.Checkpoints(workdir / "checkpoints")
  placed = jax.tree.map(
    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), abstract, shardings
  )
  restored = saved.restore(placed)
  for line in saved.notes:
    note(line)
  if restored:
    state, meta, start = restored
    note(f"resumed at step {start}")
  else:
    state = sharding.put(build.first_state(config, parts, params), shardings)
    meta, start = {"best": None, "stale": 0, "seconds": 0.0, "window": []}, 0
  del params
  writer = metrics.Writer(workdir, start if restored else None, leader)
  progress = metrics.Progress(steps["steps"], start, leader)
  window = Window(meta["window"])
  stop = _Signals()
  began = time.perf_counter() - meta["seconds"]
  seen: set[Any] = set()
  saved_at, every = start, config["checkpoint_every"]
  best, stale, stopped = meta["best"], meta["stale"], meta.get("stopped", False)

  def save(value: float | None = None) -> None:
    _finite(window.fetch(), saved, workdir)
    saved.save(
      t,
      state,
      {
        "best": best,
        "stale": stale,
        "stopped": stopped,
        "seconds": time.perf_counter() - began,
        "window": window.done,
      },
      value,
    )

  # The loop. A step is sent off before the one before it has ended.
  t = start
  stream = batches.iterate(start, steps["steps"], devices.mine)
  while t < steps["steps"] and not stopped:
    batch, hidden = next(stream)
    shape = jax.tree.map(np.shape, batch)
    fresh = str(shape) not in seen
    if fresh:
      window.pause()
    counts = _counts(batch)
    on_devices = sharding.put_batch(batch, hidden, devices, config["accumulation"] > 1)
    state, values = train_step(state, *on_devices)
    t += 1
    window.add(values, {"step": t, **counts})
    if fresh:
      seen.add(str(shape))
      window.pause()
      window.resume()

    if t % config["log_every"] == 0 or t == steps["steps"]:
      _finite(window.fetch(), saved, workdir)
      if not every and window.seconds:
        every = _agreed(max(1, int(WORK / np.median(window.seconds))))
      line = window.line()
      writer.write(t, "train", line)
      progress.update(t, {"loss": line["loss"]})

    value = None
    if t % steps["eval_every"] == 0 or t == steps["steps"]:
      window.pause()
      _finite(window.fetch(), saved, workdir)
      logits = scoring.score(
        eval_step, _evaluated(state), data.validation.tokens, lengths, devices
      )
      found = classification(logits, data.validation.label)
      writer.write(t, "validation", found)
      value = found[config["select"]]
      shown = "undefined" if value is None else f"{value:.4f}"
      progress.note(f"step {t}: validation {config['select']} {shown}")
      if value is not None and (best is None or value > best):
        best, stale = value, 0
      else:
        stale, value = stale + 1, None
      stopped = bool(config["patience"]) and stale >= config["patience"]
      window.resume()

    signalled = stop.at(t)
    due = every and t - saved_at >= every
    if value is not None or due or signalled or stopped or t == steps["steps"]:
      window.pause()
      save(value)
      saved_at = t
      window.resume()
    if signalled and t < steps["steps"] and not stopped:
      saved.wait()
      progress.close()
      writer.close()
      note(f"stopped by a signal at step {t}, saved; the same command goes on")
      return signalled

  # The chosen step, evaluated on test.
  progress.close()
  saved.wait()
  chosen = saved.best_step()
  final = {
    "params_sha256": checkpoint.sha256(state.params),
    "state_sha256": checkpoint.sha256(state),
  }
  if chosen is None:
    note(f"{config['select']} was never defined on validation: the last step is used")
    chosen = t
  seconds = time.perf_counter() - began
  if chosen != t:
    state = saved.restore_at(chosen, placed)
  result = {
    "method": config["method"]["name"],
    "step": chosen,
    "steps": t,
    "seed": config["seed"],
    "labels": config["labels"],
    "seconds": seconds,
    "examples_per_second": t * (sizes.batch + sizes.unlabelled_batch) / seconds,
    "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    **final,
  }
  for name in ("validation", "test"):
    part = getattr(data, name)
    logits = scoring.score(eval_step, _evaluated(state), part.tokens, lengths, devices)
    result[name] = classification(logits, part.label)
    if name == "test":
      writer.write(t, "test", result[name])
      if leader:
        path = workdir / "predictions" / "test.parquet"
        write_predictions(path, part.id, part.label, logits)
  writer.close()
  saved.close()
  if leader:
    checkpoint.write_json(workdir / "result.json", result)
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
    self.code = TERMINATED if number == signal.SIGTERM else INTERRUPTED

  def at(self, t: int) -> int:
    """The exit code if all processes are to stop after step t, else 0."""
    if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(t):
      return TERMINATED
    return self.code


def _claim(workdir: Path, resolved: Mapping[str, Any]) -> dict[str, Any] | None:
  """The result of this very run if it is finished; refuses the folder of another."""
  if not (workdir / "config.json").exists():
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
      raise UserError(
        f"--workdir={workdir} exists and holds no run of ssljax; choose another folder"
      )
    return None
  changed = configuration.difference(configuration.read(workdir), resolved)
  if changed:
    raise UserError(
      f"--workdir={workdir} holds another run ({'; '.join(changed[:6])}"
      f"{'; …' if len(changed) > 6 else ''}); choose another folder, or that config"
    )
  result = workdir / "result.json"
  return json.loads(result.read_text()) if result.exists() else None


def _finite(done: list[dict[str, float]], saved, workdir: Path) -> None:
  for values in done:
    if not math.isfinite(values["loss"]):
      saved.wait()
      good = saved.latest_step()
      kept = "no checkpoint yet" if good is None else f"checkpoint of step {good} kept"
      raise RunError(
        f"the loss is {values['loss']} at step {values['step']:.0f} ({kept} in "
        f"{workdir}); lower --config.learning_rate, or set --config.clip=1"
      )


def _counts(batch) -> dict[str, float]:
  """Texts that a step reads, their tokens, and the tokens of its rows."""
  real, rows = map(sum, zip(*scoring.real_share(batch), strict=True))
  texts = len(batch.labelled.index) + len(batch.unlabelled.index)
  return {"texts": texts, "tokens": real, "row_tokens": rows}


def _evaluated(state: step.TrainState) -> Any:
  return state.params if state.ema is None else state.ema


def _agreed(value: int) -> int:
  if jax.process_count() == 1:
    return value
  return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def _together(name: str) -> None:
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def _printer(leader: bool):
  return (lambda line: print(line, flush=True)) if leader else (lambda line: None)


def _compile_cache() -> None:
  """Compiled steps are kept, so that a resumed run starts at once."""
  jax.config.update("jax_compilation_cache_dir", str(assets.folder() / "xla"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def _describe(config, data, steps, lengths, devices, every_set) -> list[str]:
  train = data.train
  truncated = np.concatenate([v.tokens.truncated for v in every_set])
  return [
    f"{config['method']['name']}: {len(train.label)} labelled and {len(train.hidden)} "
    f"unlabelled texts, {len(data.validation.label)} validation, "
    f"{len(data.test.label)} test; classes {', '.join(data.labels)}",
    f"{steps['steps']} steps on {devices.shards} x {jax.devices()[0].device_kind} "
    f"({config['parallel']}); rows of {' and '.join(map(str, lengths))} tokens; "
    f"{truncated.mean():.1%} of the texts cut at {config['max_length']} tokens",
  ]


def _plan(batches, train_step, state, devices, micro) -> list[str]:
  """What a dry run adds: the shapes, how full they are, and the memory."""
  lines, most = [], None
  some = [batches.batch(t, devices.mine) for t in range(20)]
  counts = [_counts(batch) for batch, _ in some]
  share = sum(c["tokens"] for c in counts) / sum(c["row_tokens"] for c in counts)
  lines.append(f"real tokens in the rows of 20 steps: {share:.1%}")
  shapes: dict[str, Any] = {}
  for batch, hidden in some:
    text = ", ".join(
      f"{name} {' + '.join('x'.join(map(str, r.ids.shape)) for r in view.rows)}"
      for part in batch
      for name, view in part.views.items()
    )
    shapes.setdefault(text, (batch, hidden))
    most = max(shapes, key=lambda s: _counts(shapes[s][0])["row_tokens"])
  lines += [f"step shape: {text}" for text in shapes]
  size = sum(
    a.size * a.dtype.itemsize
    for a in jax.tree.leaves(
      jax.tree.map(
        lambda a: (
          jax.random.key_data(a)
          if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key)
          else a
        ),
        state,
      )
    )
  )
  lines.append(f"state: {size / 2**20:.0f} MiB")
  if hasattr(train_step, "lower"):
    batch, hidden = sharding.put_batch(*shapes[most], devices, micro)
    memory = train_step.lower(state, batch, hidden).compile().memory_analysis()
    lines.append(
      f"largest step: {memory.temp_size_in_bytes / 2**20:.0f} MiB a device besides"
    )
  return lines


def _summary(result: Mapping[str, Any]) -> str:
  test = result["test"]
  shown = ", ".join(
    f"{name} {test[name]:.3f}"
    for name in ("f1", "macro_f1", "accuracy", "auroc")
    if test[name] is not None
  )
  return f"test ({result['method']}, step {result['step']}): {shown}"

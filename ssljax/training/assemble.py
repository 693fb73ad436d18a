"""Assembles a run from its config: data, model, method, devices, compiled steps."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ssljax import config as configuration
from ssljax import sharding
from ssljax.assets import fetch
from ssljax.data import datasets, prepare
from ssljax.data.batches import loader
from ssljax.errors import UserError
from ssljax.method import Sizes
from ssljax.training import build, step


class Job(NamedTuple):
  """All that a run needs and nothing that changes in it."""

  config: dict[str, Any]
  resolved: dict[str, Any]  # the config with what follows from the data: config.json
  data: datasets.Sets
  steps: dict[str, int]  # see config.steps_of
  sizes: Sizes
  batches: loader.Loader
  truncated: dict[str, float]  # share of the texts that are cut, by split and view
  unused: tuple[str, ...]  # tensors of the encoder's checkpoint
  devices: sharding.Devices
  state: Any  # the TrainState before the first step, abstract, with shardings
  first: Callable[[], step.TrainState]  # makes it, on the devices
  train_step: Callable  # compiled: (state, batch, hidden) -> (state, metrics)
  eval_step: Callable  # compiled: (params, texts) -> logits

  def put(self, batch, hidden) -> tuple:
    """A batch of `batches` on the devices: the arguments after the state."""
    micro = self.config["accumulation"] > 1
    return sharding.put_batch(batch, hidden, self.devices, micro)


def assemble(config: dict[str, Any]) -> Job:
  """Reads the data and builds everything; writes nothing but caches.

  Raises:
    UserError: whatever the user can mend.
  """
  # Config and data are checked before weights are looked up.
  configuration.validate(config)
  method = build.make_method(config)
  config = {**config, "data": prepare.in_cache(config["data"])}
  devices = sharding.make_devices(config["parallel"], config["fsdp"])
  # Compiled steps are kept, so that a resumed run starts at once.
  jax.config.update("jax_compilation_cache_dir", str(fetch.folder() / "xla"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
  data = datasets.load(config, method.needs)
  classes, labelled, rows = (
    len(data.labels),
    len(data.train.label),
    len(data.train.hidden),
  )
  if method.needs.views and not rows:
    budget = "lower labels" if config["labels"] else "set a budget, --config.labels=200"
    raise UserError(
      f"{config['method']['name']} learns from unlabelled texts, but there are none "
      f"(--config.labels={config['labels']}); {budget}, or train configs/supervised.py"
    )
  steps = configuration.steps_of(config, labelled)
  unlabelled_batch = config["batch"] * config["unlabelled_ratio"] if rows else 0
  if method.needs.views and unlabelled_batch < method.needs.least:
    raise UserError(
      f"{config['method']['name']} needs {method.needs.least} unlabelled texts a step; "
      f"batch x unlabelled_ratio is {unlabelled_batch}: raise --config.batch"
    )
  model = build.make_classifier(config, method, data.encoder, classes)
  sizes = Sizes(
    classes,
    labelled,
    rows,
    config["batch"],
    unlabelled_batch,
    steps["steps"],
    steps["epoch_steps"],
    tuple(np.bincount(data.train.label, minlength=classes).tolist()),
    model.encoder.config.hidden_size,
  )
  views = [*data.train.labelled.values(), *data.train.unlabelled.values()]
  longest = max(int(v.tokens.lengths.max(initial=1)) for v in views)
  packed = config["layout"] == "packed"
  batches = loader.Loader(
    data.train,
    batch=config["batch"],
    unlabelled_batch=unlabelled_batch,
    classes=classes + method.needs.virtual_classes,
    seed=config["seed"],
    steps=steps["steps"],
    layout=loader.Layout(
      devices.shards,
      config["accumulation"],
      loader.row_lengths(longest, config["max_length"], packed),
      packed,
      model.encoder.config.costly_length,
    ),
  )
  lengths = batches.choice.row_lengths
  params, unused = build.init_params(model, data.encoder, config["seed"])
  optimizer = build.make_optimizer(config, params, steps)
  parts = build.Components(model, method, optimizer, sizes)
  abstract = jax.eval_shape(lambda p: build.first_state(config, parts, p), params)
  shardings = sharding.state_shardings(abstract, devices)
  train_step = step.make_train_step(
    model=model,
    method=method,
    optimizer=optimizer,
    sizes=sizes,
    ema=config["ema"],
    micro=config["accumulation"],
    weak_dropout=config["weak_dropout"],
    axis="data" if config["parallel"] == "pmap" else None,
  )
  resolved = json.loads(json.dumps(config)) | {
    "resolved": {
      "labels": list(data.labels),
      "sizes": sizes._asdict(),
      "row_lengths": list(lengths),
      "data_sha256": data.sha256,
      **steps,
    }
  }
  return Job(
    config,
    resolved,
    data,
    steps,
    sizes,
    batches,
    _truncated(data),
    tuple(unused),
    devices,
    jax.tree.map(
      lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
      abstract,
      shardings,
    ),
    lambda: sharding.put(build.first_state(config, parts, params), shardings),
    sharding.compile_train_step(
      train_step, devices, shardings, config["accumulation"] > 1
    ),
    jax.jit(
      step.make_eval_step(model=model, method=method), out_shardings=devices.replicated
    ),
  )


def _truncated(data: datasets.Sets) -> dict[str, float]:
  """The share of texts that are cut, by view; a row counts once for each."""
  rows: dict[str, list[np.ndarray]] = {}
  for views in (data.train.labelled, data.train.unlabelled):
    for name, view in views.items():
      cut = np.add.reduceat(view.tokens.truncated.astype(float), view.begin[:-1])
      rows.setdefault(f"train ({name})", []).append(cut / np.diff(view.begin))
  shares = {name: np.concatenate(some) for name, some in rows.items()}
  for name in ("validation", "test"):
    shares[name] = getattr(data, name).tokens.truncated
  return {name: float(share.mean()) for name, share in shares.items()}

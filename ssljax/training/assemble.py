"""Assembles a training run from its config: data, model, optimiser, compiled steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssljax import config as configuration
from ssljax import run_config, sharding
from ssljax.assets import fetch
from ssljax.batch import Batch
from ssljax.data import datasets
from ssljax.data.batches import loader
from ssljax.data.sources.build import resolve_data
from ssljax.errors import UserError
from ssljax.method import Sizes
from ssljax.models.attention_kernel import Kernel
from ssljax.models.hf import read_config, tokenizer_sha256
from ssljax.runtime import compile_cache
from ssljax.training import (
  build,
  flops,
  optim,
  pytrees,
  shared_rows,
  step,
  tables,
  trackers,
)

UNROLLED = 6  # on a CPU, up to so many layers are unrolled by default


class TrainingJob(NamedTuple):
  """Everything that a run needs and that doesn't change during the run."""

  config: dict[str, Any]
  resolved: dict[str, Any]  # the content of config.json: config, facts about the data
  data: datasets.Sets
  steps: dict[str, int]  # see config.steps_of
  sizes: Sizes
  batches: loader.Loader
  unused: list[str]  # tensors in the encoder's folder that were not loaded
  devices: sharding.Devices
  kernel: Kernel | None  # computes attention in passes without dropout
  state: Any  # the initial TrainState as jax.ShapeDtypeStruct with shardings
  first: Callable[[], step.TrainState]  # creates the initial state on the devices
  train_step: Callable  # compiled: (state, batch, hidden) -> (state, metrics)
  eval_step: Callable  # compiled: (params, texts) -> logits f32 [n, C]
  flops: flops.StepFlops
  logged: Callable[[Any, int], dict[str, float]]  # (params, finished steps) -> values

  def put(self, batch: Batch, hidden: np.ndarray) -> tuple[Batch, jax.Array]:
    """Moves a batch to the devices; returns the arguments `batch, hidden` of a step."""
    micro = self.config["accumulation"] > 1
    return sharding.put_batch(batch, hidden, self.devices, micro)


def assemble(config: dict[str, Any]) -> TrainingJob:
  """Reads the data and builds the run; writes only caches.

  Raises:
    UserError: the config, the data or the encoder can't be used.
  """
  # The config and the data are checked before the encoder's weights are loaded.
  configuration.validate(config)
  trackers.check(config)
  method = build.make_method(config)
  config = {**config, "data": resolve_data(config["data"])}
  devices = sharding.make_devices(config["parallel"], config["fsdp"])
  # Compiled steps are cached on disk, so that a resumed run starts at once.
  compile_cache.use(fetch.cache_folder() / "xla")
  data = datasets.load_sets(config, method.needs, read_config)
  steps = configuration.steps_of(config, len(data.train.label))
  unlabelled_batch = _unlabelled_batch(config, data, method.needs)
  labels = len(data.labels)
  model = build.make_classifier(config, method, data.encoder, labels, devices)
  counts = np.bincount(data.train.label, minlength=labels).tolist()
  sizes = Sizes(
    classes=labels,
    labelled=len(data.train.label),
    unlabelled=len(data.train.hidden),
    batch=config["batch"],
    unlabelled_batch=unlabelled_batch,
    steps=steps["steps"],
    epoch_steps=steps["epoch_steps"],
    labelled_counts=tuple(counts),
    width=model.encoder.config.hidden_size,
  )
  views = [*data.train.labelled.values(), *data.train.unlabelled.values()]
  longest = max(view.longest for view in views)
  packed, stratified = config["layout"] == "packed", config["order"] == "stratified"
  encoder = model.encoder.config
  batches = loader.Loader(
    data.train,
    batch=config["batch"],
    unlabelled_batch=unlabelled_batch,
    classes=sizes.classes + method.needs.virtual_classes,
    seed=config["seed"],
    steps=steps["steps"],
    layout=loader.Layout(
      devices.shards,
      config["accumulation"],
      loader.row_limit(longest, config["max_length"]),
      packed,
      encoder.break_even_length if stratified else encoder.costly_length,
    ),
    stratified=stratified,
    groups=shared_rows.find_groups(method, model, sizes, config["accumulation"]),
  )
  params, unused = build.init_params(model, data.encoder, config["seed"])
  hyperparameters = ("learning_rate", "weight_decay", "layer_decay", "clip")
  optimizer = optim.make(
    params,
    warmup=steps["warmup"],
    total=steps["steps"],
    **{name: config[name] for name in hyperparameters},
  )

  def init_state(params: Any) -> step.TrainState:
    return step.init_state(
      jax.tree.map(jnp.asarray, params),
      method=method,
      optimizer=optimizer,
      sizes=sizes,
      ema=config["ema"] > 0,
      key=jax.random.key(config["seed"], impl=config["prng"]),
    )

  abstract = jax.eval_shape(init_state, params)
  shardings = sharding.state_shardings(abstract, devices)
  if config["shard_tables"]:
    method_state = tables.split(shardings.method, abstract.method, sizes, devices)
    shardings = shardings._replace(method=method_state)
  layers = encoder.num_hidden_layers
  unroll = layers_per_round(config["unroll"], layers, config["remat"])
  train_step = step.make_train_step(
    model=model.clone(encoder=model.encoder.clone(unroll=unroll)),
    method=method,
    optimizer=optimizer,
    sizes=sizes,
    ema=config["ema"],
    micro=config["accumulation"],
    weak_dropout=config["weak_dropout"],
    axis="data" if config["parallel"] == "pmap" else None,
  )
  rate = optim.schedule(config["learning_rate"], steps["warmup"], steps["steps"])
  # A separate program, so that the train step stays the same to the bit.
  norm = jax.jit(optax.tree.norm, out_shardings=devices.replicated)
  facts = {
    "labels": data.labels,
    "sizes": sizes._asdict(),
    "row_lengths": batches.rows.row_lengths,
    "data_sha256": data.sha256,
    "rows_sha256": data.rows_sha256,
    "tokenizer_sha256": tokenizer_sha256(data.encoder),
    "weights_sha256": pytrees.sha256(params["encoder"]),
    **steps,
  }
  # The run may later be used from another folder.
  places = {key: run_config.absolute(config[key]) for key in run_config.PLACES}
  return TrainingJob(
    config=config,
    resolved={**config, **places, "resolved": facts},
    data=data,
    steps=steps,
    sizes=sizes,
    batches=batches,
    unused=unused,
    devices=devices,
    kernel=model.encoder.kernel,
    state=jax.tree.map(
      lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
      abstract,
      shardings,
    ),
    first=lambda: sharding.put(init_state(params), shardings),
    train_step=sharding.compile_train_step(
      train_step, devices, shardings, config["accumulation"] > 1
    ),
    eval_step=jax.jit(
      # In float32, as in exported folders, so that thresholds hold for these as well.
      step.make_eval_step(
        model=model.clone(encoder=model.encoder.clone(dtype=jnp.float32)), method=method
      ),
      out_shardings=devices.replicated,
    ),
    flops=flops.StepFlops(
      model=model,
      method=method,
      params=params,
      sizes=sizes,
      micro=config["accumulation"],
    ),
    logged=lambda params, t: {
      "learning_rate": float(rate(t - 1)),
      "param_norm": float(norm(params)),
    },
  )


def layers_per_round(unroll: int, layers: int, remat: bool) -> int:
  """The layers in each round of the compiled loop over the layers.

  Args:
    unroll, remat: of the config.
    layers: of the encoder.
  """
  if unroll:
    return min(unroll, layers)
  # Without the loop, XLA would merge recomputed layers with the first computation.
  cheap = jax.default_backend() == "cpu" and layers <= UNROLLED and not remat
  return layers if cheap else 1


def _unlabelled_batch(config, data: datasets.Sets, needs) -> int:
  """The number of unlabelled texts per step; UserError if the method needs more."""
  name, available = config["method"]["name"], len(data.train.hidden)
  if needs.views and not available:
    fix = "lower labels" if config["labels"] else "set a budget, --config.labels=200"
    raise UserError(
      f"{name} learns from unlabelled texts, but there are none "
      f"(--config.labels={config['labels']}); {fix}, or train configs/supervised.py"
    )
  size = config["batch"] * config["unlabelled_ratio"] if available else 0
  if needs.views and size < needs.least:
    raise UserError(
      f"{name} needs {needs.least} unlabelled texts per step, but batch x "
      f"unlabelled_ratio is {size}; raise --config.batch"
    )
  return size

"""Builds the method and the classifier that a config describes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssljax import config as configuration
from ssljax import methods, wrappers
from ssljax.errors import UserError
from ssljax.method import Method, Sizes
from ssljax.models import Encoder, load_params, read_config
from ssljax.models.classifier import Classifier
from ssljax.training import optim
from ssljax.training.step import TrainState, init_state


class Components(NamedTuple):
  model: Classifier
  method: Method
  optimizer: optax.GradientTransformation
  sizes: Sizes


def make_method(config: Mapping[str, Any]) -> Method:
  """Builds the method of a config, with its wrapper.

  Raises:
    UserError: an unknown method or keyword, a keyword out of range, or a setting that
      the method does not support.
  """
  method = methods.make(config["method"])
  method = wrappers.wrap(method, config["wrapper"], config["method"]["name"])
  name = configuration.method_name(config)
  if config["accumulation"] > 1 and method.assign is None:
    raise UserError(
      f"{name} does not support micro-batches (its loss spans the batch, or its file "
      "defines no `assign` and `learn`): leave --config.accumulation at 1 and lower "
      "--config.batch, or set --config.remat=true to save memory"
    )
  if method.needs.teacher and not config["ema"]:
    raise UserError(f"{name} needs a teacher: set --config.ema, for example to 0.99")
  if method.needs.layout and config["layout"] != method.needs.layout:
    other = ", or --config.method.mix=pooled" if method.needs.mixes else ""
    raise UserError(
      f"{name} with these settings needs --config.layout={method.needs.layout}, not "
      f"{config['layout']}; set it{other}"
    )
  return method


def make_classifier(
  config: Mapping[str, Any], method: Method, folder: Path, classes: int
) -> Classifier:
  """Builds the classifier, without parameters, over the encoder in `folder`.

  Raises:
    UserError: the config's max_length exceeds the encoder's, or see `read_config`.
  """
  encoder = Encoder(
    read_config(folder),
    dtype=jnp.dtype(config["dtype"]),
    remat=config["remat"],
    dropout=config["dropout"],
  )
  limit = encoder.config.max_length
  if limit is not None and config["max_length"] > limit:
    raise UserError(
      f"--config.max_length={config['max_length']}: {config['encoder']} has positions "
      f"for {limit} tokens; set --config.max_length={limit}"
    )
  return Classifier(
    encoder,
    classes + method.needs.virtual_classes,
    config["head"],
    dict(method.needs.heads),
    config["dropout"],
  )


def init_params(
  model: Classifier, folder: Path, seed: int
) -> tuple[dict[str, Any], list[str]]:
  """Initialises a classifier: pretrained encoder, new heads.

  With head "hf", the pooler is pretrained as well if the folder has one.

  Returns:
    (params, unused): an f32 tree of NumPy and JAX arrays, and the names of the tensors
    in the folder that were not used.
  """
  key = jax.random.key(seed, impl="threefry2x32")
  width = model.encoder.config.hidden_size
  params = model.init(key, jnp.zeros((1, width)), method="classify")["params"]
  with_pooler = model.head == "hf"
  pretrained, unused = load_params(folder, model.encoder.config, with_head=with_pooler)
  if not with_pooler:
    return {**params, "encoder": pretrained}, unused
  pooler = pretrained.get("pooler")
  if pooler is None:
    first = jnp.zeros((1, 1, width))
    pooler = model.init(key, first, True, method="first_token")["params"]["pooler"]
  return {**params, "encoder": pretrained["encoder"], "pooler": pooler}, unused


def make_optimizer(config: Mapping[str, Any], params, steps: Mapping[str, int]):
  return optim.make(
    params,
    learning_rate=config["learning_rate"],
    weight_decay=config["weight_decay"],
    layer_decay=config["layer_decay"],
    warmup=steps["warmup"],
    total=steps["steps"],
    clip=config["clip"],
  )


def first_state(config: Mapping[str, Any], parts: Components, params) -> TrainState:
  """The state before the first step, on the default device."""
  params = jax.tree.map(jnp.asarray, params)
  key = jax.random.key(config["seed"], impl=config["prng"])
  return init_state(
    params,
    method=parts.method,
    optimizer=parts.optimizer,
    sizes=parts.sizes,
    ema=config["ema"] > 0,
    key=key,
  )

"""Builds the method and the classifier that a config describes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssljax import config as configuration
from ssljax import methods, wrappers
from ssljax.errors import UserError
from ssljax.method import Method
from ssljax.models import Encoder, load_params, read_config
from ssljax.models.attention_kernel import choose
from ssljax.models.classifier import NETWORK, Classifier
from ssljax.sharding import Devices, make_dot


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
  config: Mapping[str, Any],
  method: Method,
  folder: Path,
  classes: int,
  devices: Devices,
) -> Classifier:
  """Builds the classifier, without parameters, over the encoder in `folder`.

  Raises:
    UserError: max_length exceeds the encoder's limit, the devices have no kernel for
      this encoder, or `read_config` failed.
  """
  architecture = read_config(folder)
  encoder = Encoder(
    architecture,
    dtype=jnp.dtype(config["dtype"]),
    remat=config["remat"],
    dropout=config["dropout"],
    hashed=config["dropout_bits"] == "hash",
    kernel=choose(config["attention"], architecture, devices),
    dot=make_dot(devices),
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
    encoder.hashed,
  )


def init_params(
  model: Classifier, folder: Path, seed: int
) -> tuple[dict[str, Any], list[str]]:
  """Initialises a classifier, with a pretrained encoder and new heads.

  Head "hf" also uses the pretrained pooler if the folder has one. All networks of a
  classifier start with the same encoder; their heads differ.

  Returns:
    (params, unused): an f32 tree of NumPy and JAX arrays, and the names of the unused
    tensors in the folder.
  """
  key = jax.random.key(seed, impl="threefry2x32")
  width = model.encoder.config.hidden_size
  params = model.init(key, jnp.zeros((1, width)), method="classify")["params"]
  with_pooler = model.head == "hf"
  loaded, unused = load_params(folder, model.encoder.config, with_head=with_pooler)
  loaded = loaded if with_pooler else {"encoder": loaded}
  pretrained = {name: loaded[name] for name in ("encoder", "pooler") if name in loaded}

  def complete(heads, key):
    """Adds the encoder and, if needed, the pooler to the new heads of a network."""
    if with_pooler and "pooler" not in pretrained:
      first = jnp.zeros((1, 1, width))
      new = model.init(key, first, True, method="first_token")["params"]
      heads = {**heads, "pooler": new["pooler"]}
    return {**heads, **pretrained}

  networks = [name for name in params if name.startswith(NETWORK)]
  others = {
    name: jax.tree.map(np.copy, complete(params[name], jax.random.fold_in(key, i)))
    for i, name in enumerate(networks)
  }
  return {**complete(params, key), **others}, unused

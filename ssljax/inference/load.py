"""Loads the trained model of a run from its best checkpoint."""

import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax import run_config, sharding
from ssljax.assets.encoders import resolve
from ssljax.batch import Rows, Texts
from ssljax.errors import UserError
from ssljax.inference.score import EvalStep
from ssljax.method import Method, Sizes
from ssljax.models.classifier import Classifier
from ssljax.models.hf import tokenizer_sha256
from ssljax.training import build, checkpoint
from ssljax.training.step import from_saved, make_eval_step


class TrainedModel(NamedTuple):
  """The model of a run, ready for evaluation."""

  workdir: Path
  config: dict[str, Any]  # config.json
  labels: tuple[str, ...]  # class names by id
  step: int  # step of the checkpoint
  params: Any  # NumPy arrays; the moving average, if the run keeps one
  model: Classifier
  method: Method
  encoder: Path  # folder with the encoder's config.json and tokenizer

  @property
  def eval_step(self) -> EvalStep:
    """The function from (params, texts) to logits, f32 [n, C]; not compiled yet."""
    return make_eval_step(model=self.model, method=self.method)


def load_trained(workdir: str | Path) -> TrainedModel:
  """Loads the best checkpoint of a run, or the newest one if none was evaluated yet.

  Reads only the parameters, not the optimiser state or the method's tables. Skips
  damaged checkpoints, and names them on standard error.

    trained = load_trained("runs/demo")
    logits = jax.jit(trained.eval_step)(trained.params, texts)

  The model computes in float32, also if the run was trained in bfloat16.

  Raises:
    UserError: the folder holds no run, the run has no checkpoint yet, or its encoder
      can't be found, has changed since training, or doesn't fit the checkpoint.
  """
  workdir = Path(workdir).expanduser()
  config = run_config.read(workdir)
  method, resolved = build.make_method(config), config["resolved"]

  def rebuild(saved):  # for checkpoints that have no digest of their parameters
    sizes = Sizes(**resolved["sizes"])
    return from_saved(saved, method=method, sizes=sizes, prng=config["prng"])

  checkpoints = workdir / "checkpoints"
  step, params, notes = checkpoint.restore_params(checkpoints, rebuild)
  labels = tuple(resolved["labels"])
  try:
    encoder = resolve(config["encoder"])
  except UserError as error:
    raise run_config.not_found(workdir, "encoder", error) from None
  hashes = {"tokenizer_sha256": tokenizer_sha256(encoder)}
  run_config.check_encoder(workdir, config, hashes)
  # Devices that have no kernel can load every run.
  setting = "plain" if config["attention"] == "plain" else "auto"
  model = build.make_classifier(
    {**config, "attention": setting, "dtype": "float32"},
    method,
    encoder,
    len(labels),
    sharding.make_devices(),
  )
  for note in notes:
    print(note, file=sys.stderr)  # predict writes its rows to standard output
  difference = first_difference(params, model)
  if difference:
    raise UserError(
      f"{workdir}: its parameters don't fit the encoder {config['encoder']}:"
      f" {difference}; restore the encoder that the run was trained with"
    )
  return TrainedModel(workdir, config, labels, step, params, model, method, encoder)


def first_difference(params: Any, model: Classifier) -> str | None:
  """Describes the first parameter whose shape doesn't fit the model, if any."""
  token = jax.ShapeDtypeStruct((1, 1, 1), jnp.int32)
  text = Texts((Rows(token, token, token, token),), jnp.zeros((1, 1), jnp.int32))
  wanted = jax.eval_shape(model.init, jax.random.key(0), (text,))["params"]
  saved, expected = _shapes(params), _shapes(wanted)
  for name in sorted(saved.keys() | expected.keys()):
    if saved.get(name) != expected.get(name):
      there, here = saved.get(name, "absent"), expected.get(name, "absent")
      return f"{name} is {there} in the checkpoint and {here} in the model"
  return None


def _shapes(params: Any) -> dict[str, tuple[int, ...]]:
  """Shapes by name, without empty arrays, which checkpoints leave out."""
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    if math.prod(leaf.shape)
  }

"""Exports a trained classifier as a folder that other programs load.

  python -m ssljax.export --workdir=DIR --output=FOLDER

A run with head="hf" becomes a folder for `transformers`, which loads it as an
AutoModelForSequenceClassification. A run with head="mlp" becomes a folder for
`sentence-transformers` (mean pooling, dense, GELU, dense); the embeddings are the
logits. If the head has several voters, they are merged into one head without
approximation. A method that predicts with several networks can't be exported. The
folder contains no code. `ssljax.SafetyClassifier.load(FOLDER)` reads both kinds of
folders.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from ssljax import cli
from ssljax.data.batches import tokenizer
from ssljax.errors import RunError, UserError
from ssljax.evals import chosen, decisions, runs
from ssljax.evals.report import model_card
from ssljax.inference import exported
from ssljax.inference.classifier import SafetyClassifier
from ssljax.inference.load import load_trained
from ssljax.models import read_config, save_params
from ssljax.models.config import EncoderConfig
from ssljax.models.hf import WEIGHTS, write_tensors
from ssljax.runtime import lock
from ssljax.runtime.atomic import OCCUPIED, atomic_folder, cannot_write, is_old
from ssljax.runtime.json_files import write_json
from ssljax.training import pytrees

TOLERANCE = 1e-4  # largest allowed difference between the run's and the export's logits
COMPARED = 32  # this many first validation texts, and this many of the longest
MODULES = ("Transformer", "Pooling", "Dense", "Dense")  # of sentence-transformers
POOLING_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")


def define_flags() -> None:
  flags.DEFINE_string("workdir", None, "folder of a finished run", required=True)
  flags.DEFINE_string("output", None, "folder to write", required=True)


def main() -> int:
  export(flags.FLAGS.workdir, flags.FLAGS.output)
  return 0


def export(workdir: str | Path, output: str | Path) -> None:
  """Exports a run, and compares the exported model's logits with the run's.

    export("runs/demo", "demo-classifier")

  Raises:
    UserError: the run isn't finished, or it predicts with several networks; the output
      exists already, or can't be written.
    RunError: the exported model and the run have different logits, or the disk is full.
      Nothing is written.
  """
  run = runs.read_run(Path(workdir).expanduser())
  output = Path(output).expanduser()
  exists = UserError(f"--output={output} exists; name a new folder, or remove it")
  if output.exists():
    raise exists
  try:
    with lock.exclusive(output, "--output"):
      if output.exists():
        raise exists
      _sweep_old(output)
      with atomic_folder(output) as folder:
        _write(run, folder)
        _check_logits(run, folder)
  except OSError as error:
    if error.errno in OCCUPIED:  # by a command with another lock, such as evaluate
      raise exists from None
    raise cannot_write(f"--output={output}", error, "name another folder") from None
  print(f"{run.workdir}, step {run.result['step']}: {output}")


def _sweep_old(output: Path) -> None:
  """Deletes what killed exports of version 0.1.0 have left of an output."""
  for path in output.parent.glob(".*"):
    if is_old(path.name, output.name) and exported.is_unsealed(path):
      shutil.rmtree(path, ignore_errors=True)


def _write(run: runs.Run, folder: Path) -> None:
  trained = load_trained(run.workdir)
  head, max_length = run.config["head"], run.config["max_length"]
  config, needs = read_config(trained.encoder), trained.method.needs
  predicts = needs.predicts
  if (kind := needs.heads.get(predicts)) and kind.kind == "network":
    raise UserError(
      f"{run.workdir}: {run.result['method']} predicts with {kind.count} networks, and "
      "an exported folder holds one; use the run itself (ssljax predict --model="
      f"{run.workdir}, or SafetyClassifier.load), or export a run of another method"
    )
  rule = decisions.read_rule(run.workdir, trained.step)
  rule = chosen.apply(run.workdir, rule, trained.step)
  voters = write_weights(
    folder,
    config,
    trained.params,
    head,
    run.labels,
    max_length,
    predicts,
    rule.temperature,
  )
  tokenizer.copy_tokenizer(
    trained.encoder, folder, max_length, run.config["tokenization"]
  )
  thresholds = rule.thresholds
  settings = {
    "head": head,
    "voters": voters,
    "labels": run.labels,
    "max_length": max_length,
    "temperature": 1.0,  # the weights of the last layer are divided by it
    "temperature_in_weights": rule.temperature,
    "thresholds": {name: point["threshold"] for name, point in thresholds.items()},
    "warnings": {name: point["warning"] for name, point in thresholds.items()},
    "promises": {name: point["promise"] for name, point in thresholds.items()},
    "chosen": {  # after the run
      name: {**point, "data": Path(point["data"]).name}
      for name, point in thresholds.items()
      if "data" in point
    },
    "method": run.result["method"],
    "step": trained.step,
    "params_sha256": pytrees.sha256(trained.params),
  }
  exported.seal(folder, settings)
  card = model_card.render_model_card(run, head)
  (folder / exported.README).write_text(card, encoding="utf-8")


def write_weights(
  folder: Path,
  config: EncoderConfig,
  params: Mapping[str, Any],
  head: str,
  labels: Sequence[str],
  max_length: int,
  predicts: str = "classifier",
  temperature: float = 1.0,
) -> int:
  """Writes the encoder and the head; returns the number of voters in the head.

  The softmax of the written model's logits gives calibrated probabilities.

  Args:
    params: parameters of a `Classifier`. If it has voters, its dense layers have a
      leading axis for them.
    head: "hf" or "mlp", which determines the format.
    labels: class names. Further outputs of the head (virtual classes) are dropped.
    max_length: maximum number of tokens of a text.
    predicts: the head that the method predicts with; see `Needs.predicts`.
    temperature: the logits are divided by it.
  """
  params, classes = jax.tree.map(np.asarray, params), len(labels)
  linear = params.get(f"beside_{predicts}")  # an extra head, or None
  if head == "hf":
    dense = linear or params["classifier"]
    kernel, bias = (dense[name].astype(np.float64) for name in ("kernel", "bias"))
    if kernel.ndim == 3:  # linear voters: their mean is equivalent
      kernel, bias = kernel.mean(0), bias.mean(0)
    weights = {name: params[name] for name in ("encoder", "pooler")}
    kernel, bias = kernel[:, :classes] / temperature, bias[:classes] / temperature
    weights["classifier"] = {"kernel": kernel, "bias": bias}
    save_params(folder, config, weights, tuple(labels))
    return 1
  save_params(folder, config, params["encoder"])
  dense_layers = _split_linear_head(linear) if linear else params
  return _write_dense(dense_layers, classes, max_length, temperature, folder)


def _split_linear_head(linear: Mapping[str, Any]) -> dict[str, Any]:
  """Expresses a linear head as two voters, each with a GELU between dense layers.

  The mean of the voters is exact, since x = gelu(x) - gelu(-x).
  """
  kernel, bias = linear["kernel"], linear["bias"]
  eye = np.eye(len(kernel), dtype=np.float32)
  return {
    "dense": {"kernel": np.stack([eye, -eye]), "bias": np.zeros((2, len(eye)))},
    "classifier": {
      "kernel": np.stack([2 * kernel, -2 * kernel]),
      "bias": np.stack([bias, bias]),
    },
  }


def _write_dense(
  params: Mapping[str, Any],
  classes: int,
  max_length: int,
  temperature: float,
  folder: Path,
) -> int:
  """Writes the modules that follow the encoder; returns the number of voters."""
  (kernel, bias), (last, last_bias) = (
    (params[name]["kernel"], params[name]["bias"]) for name in ("dense", "classifier")
  )
  voters = 1
  if kernel.ndim == 3:  # [H, D, W]: the voters' hidden layers become one wide layer
    voters = len(kernel)
    kernel = kernel.transpose(1, 0, 2).reshape(kernel.shape[1], -1)
    bias = bias.reshape(-1)
    last = last.reshape(-1, last.shape[-1]) / voters
    last_bias = last_bias.mean(0)
  last, last_bias = last / temperature, last_bias / temperature
  modules = [
    {
      "idx": i,
      "name": str(i),
      "path": f"{i}_{name}" if i else "",
      "type": f"sentence_transformers.models.{name}",
    }
    for i, name in enumerate(MODULES)
  ]
  write_json(folder / "modules.json", modules)
  transformer = {"max_seq_length": max_length, "do_lower_case": False}
  write_json(folder / "sentence_bert_config.json", transformer)
  pooling = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in POOLING_MODES}
  pooling = {"word_embedding_dimension": kernel.shape[0], **pooling}
  write_json(folder / "1_Pooling" / "config.json", pooling)
  for name, weight, shift, activation in (
    ("2_Dense", kernel, bias, "activation.GELU"),
    ("3_Dense", last[:, :classes], last_bias[:classes], "linear.Identity"),
  ):
    dense = {
      "in_features": weight.shape[0],
      "out_features": weight.shape[1],
      "bias": True,
      "activation_function": f"torch.nn.modules.{activation}",
    }
    write_json(folder / name / "config.json", dense)
    tensors = {"linear.weight": weight.T, "linear.bias": shift}
    tensors = {n: np.ascontiguousarray(t, np.float32) for n, t in tensors.items()}
    write_tensors(folder / name / WEIGHTS, tensors)
  return voters


def _check_logits(run: runs.Run, folder: Path) -> None:
  """Compares the run's and the folder's logits on validation texts."""
  predictions = run.predictions("validation")
  texts = list(zip(predictions.text, predictions.response, strict=True))
  by_length = sorted(texts, key=lambda t: len(t[0]) + len(t[1] or ""))
  texts = texts[:COMPARED] + by_length[-COMPARED:]
  expected = SafetyClassifier.of_run(run.workdir).logits(texts).logits
  card = json.loads((folder / exported.CARD).read_text(encoding="utf-8"))
  logits = SafetyClassifier.load(folder).logits(texts).logits
  logits *= card["temperature_in_weights"]
  difference = float(np.abs(logits - expected).max())
  if not difference <= TOLERANCE:
    raise RunError(
      f"{folder}: the logits of the run and of the exported model differ by "
      f"{difference:.2g}, so nothing was exported; please report this"
    )


if __name__ == "__main__":
  define_flags()
  cli.run(main)

"""Exports a trained classifier as a folder that other programs load.

  python -m ssljax.export --workdir=DIR --output=FOLDER

A run with head="hf" becomes a folder for `transformers`
(AutoModelForSequenceClassification), one with head="mlp" a folder for
`sentence-transformers` (mean pooling, dense, GELU, dense; its output are the logits).
Several voters are folded into one head exactly. The folder contains no code.
`ssljax.SafetyClassifier.load(FOLDER)` reads both.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from safetensors.numpy import save_file

from ssljax import cli
from ssljax.assets.encoders import TOKENIZER
from ssljax.errors import RunError, UserError
from ssljax.evals import runs
from ssljax.evals.report import model_card
from ssljax.inference.classifier import SafetyClassifier
from ssljax.inference.exported import CARD
from ssljax.inference.load import load_trained
from ssljax.models import read_config, save_params
from ssljax.models.config import EncoderConfig
from ssljax.runtime.atomic import atomic_folder
from ssljax.runtime.json_files import write_json
from ssljax.training import pytrees

TOLERANCE = 1e-4  # largest difference between exported logits and those of the run
CHECKED = 32  # first validation texts, and as many of the longest, that are compared


def define_flags() -> None:
  flags.DEFINE_string("workdir", None, "folder of a finished run", required=True)
  flags.DEFINE_string("output", None, "folder to write", required=True)


def main() -> int:
  export(flags.FLAGS.workdir, flags.FLAGS.output)
  return 0


def export(workdir: str | Path, output: str | Path) -> None:
  """Writes the folder and compares its logits with those of the run.

    export("runs/demo", "demo-classifier")

  Raises:
    UserError: the run isn't finished; the output exists already, or can't be written.
    RunError: the exported model has other logits than the run; nothing is written.
  """
  run = runs.read_run(Path(workdir).expanduser())
  output = Path(output).expanduser()
  if output.exists():
    raise UserError(f"--output={output} exists; name a new folder, or remove it")
  try:
    with atomic_folder(output) as folder:
      _write(run, folder)
      _check_logits(run, folder)
  except OSError as error:
    raise UserError(
      f"--output={output}: cannot be written ({error}); name another folder"
    ) from None
  print(f"{run.workdir}, step {run.result['step']}: {output}")


def _write(run: runs.Run, folder: Path) -> None:
  trained = load_trained(run.workdir)
  head, labels = run.config["head"], run.labels
  max_length = run.config["max_length"]
  voters = write_weights(
    folder,
    read_config(trained.encoder),
    trained.params,
    head,
    labels,
    max_length,
    trained.method.needs.predicts,
  )
  _write_tokenizer(trained.encoder, max_length, folder)
  thresholds = run.result["thresholds"]
  write_json(
    folder / CARD,
    {
      "head": head,
      "voters": voters,
      "labels": labels,
      "max_length": max_length,
      "temperature": run.result["temperature"],
      "thresholds": {name: point["threshold"] for name, point in thresholds.items()},
      "method": run.result["method"],
      "step": trained.step,
      "params_sha256": pytrees.sha256(trained.params),
    },
  )
  card = model_card.render_model_card(run, head)
  (folder / "README.md").write_text(card, encoding="utf-8")


def _write_tokenizer(encoder: Path, max_length: int, folder: Path) -> None:
  """Copies the encoder's tokenizer, set to cut long texts as training did."""
  for pattern in TOKENIZER:
    for file in encoder.glob(pattern):
      shutil.copyfile(file, folder / file.name)
  path = folder / "tokenizer_config.json"
  settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
  truncation = {"model_max_length": max_length, "truncation_side": "left"}
  write_json(path, {**settings, **truncation})


def write_weights(
  folder: Path,
  config: EncoderConfig,
  params: Mapping[str, Any],
  head: str,
  labels: Sequence[str],
  max_length: int,
  predicts: str = "classifier",
) -> int:
  """Writes encoder and head in the format for `head`.

  Args:
    params: of a `Classifier`; voters are a leading axis of its dense layers.
    head: "hf" or "mlp".
    labels: class names; later outputs of the head (virtual classes) are dropped.
    max_length: tokens after which a text is cut.
    predicts: the head that the method predicts with, see `Needs.predicts`.

  Returns:
    The number of voters in the written head.
  """
  params = _with_predicting_head(params, predicts, head)
  if head == "hf":
    classifier = _average_voters(params["classifier"], len(labels))
    weights = {"encoder": params["encoder"], "pooler": params["pooler"]}
    save_params(folder, config, {**weights, "classifier": classifier}, tuple(labels))
    return 1
  kernel = params["classifier"]["kernel"]
  voters = kernel.shape[0] if kernel.ndim == 3 else 1
  save_params(folder, config, params["encoder"])
  _write_dense(params, voters, len(labels), max_length, folder)
  return voters


def _with_predicting_head(
  params: Mapping[str, Any], predicts: str, head: str
) -> Mapping[str, Any]:
  """Puts the head that predicts in the place of the classifier."""
  linear = params.get(f"beside_{predicts}")
  if linear is None:  # the classifier itself, or voters, which are in its place already
    return params
  if head == "hf":
    return {**params, "classifier": linear}
  # The format has a GELU between two dense layers. x = gelu(x) - gelu(-x), so the
  # linear head is the mean of two voters.
  kernel, bias = np.asarray(linear["kernel"]), np.asarray(linear["bias"])
  identity = np.eye(len(kernel), dtype=np.float32)
  return {
    **params,
    "dense": {
      "kernel": np.stack([identity, -identity]),
      "bias": np.zeros((2, len(identity))),
    },
    "classifier": {
      "kernel": np.stack([2 * kernel, -2 * kernel]),
      "bias": np.stack([bias, bias]),
    },
  }


def _average_voters(dense: Mapping[str, Any], classes: int) -> dict[str, Any]:
  """Averages linear voters, which is exact, and drops virtual classes."""
  kernel, bias = (np.asarray(dense[name], np.float64) for name in ("kernel", "bias"))
  if kernel.ndim == 3:
    kernel, bias = kernel.mean(0), bias.mean(0)
  return {"kernel": kernel[:, :classes], "bias": bias[:classes]}


def _write_dense(
  params: Mapping[str, Any], voters: int, classes: int, max_length: int, folder: Path
) -> None:
  """Writes the modules after the encoder, as sentence-transformers names them."""
  hidden, output = params["dense"], params["classifier"]
  kernel, bias = np.asarray(hidden["kernel"]), np.asarray(hidden["bias"])
  last, last_bias = np.asarray(output["kernel"]), np.asarray(output["bias"])
  if kernel.ndim == 3:  # [H, D, W]: the voters' hidden layers become one wide layer
    width = kernel.shape[1]
    kernel = kernel.transpose(1, 0, 2).reshape(width, -1)
    bias = bias.reshape(-1)
    last = last.reshape(-1, last.shape[-1]) / voters
    last_bias = last_bias.mean(0)
  last, last_bias = last[:, :classes], last_bias[:classes]
  names = ["", "1_Pooling", "2_Dense", "3_Dense"]
  types = ["Transformer", "Pooling", "Dense", "Dense"]
  modules = [
    {"idx": i, "name": str(i), "path": n, "type": f"sentence_transformers.models.{t}"}
    for i, (n, t) in enumerate(zip(names, types, strict=True))
  ]
  write_json(folder / "modules.json", modules)
  write_json(
    folder / "sentence_bert_config.json",
    {"max_seq_length": max_length, "do_lower_case": False},
  )
  write_json(
    folder / "1_Pooling" / "config.json",
    {
      "word_embedding_dimension": kernel.shape[0],
      "pooling_mode_cls_token": False,
      "pooling_mode_mean_tokens": True,
      "pooling_mode_max_tokens": False,
      "pooling_mode_mean_sqrt_len_tokens": False,
    },
  )
  torch = "torch.nn.modules"
  for name, weight, shift, activation in (
    ("2_Dense", kernel, bias, f"{torch}.activation.GELU"),
    ("3_Dense", last, last_bias, f"{torch}.linear.Identity"),
  ):
    write_json(
      folder / name / "config.json",
      {
        "in_features": weight.shape[0],
        "out_features": weight.shape[1],
        "bias": True,
        "activation_function": activation,
      },
    )
    tensors = {"linear.weight": np.ascontiguousarray(weight.T), "linear.bias": shift}
    tensors = {n: np.ascontiguousarray(t, np.float32) for n, t in tensors.items()}
    save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})


def _check_logits(run: runs.Run, folder: Path) -> None:
  """Compares logits of the run and of the folder on validation texts, in float32."""
  predictions = run.predictions("validation")
  texts = list(zip(predictions.text, predictions.response, strict=True))
  by_length = sorted(texts, key=lambda t: len(t[0]) + len(t[1] or ""))
  texts = texts[:CHECKED] + by_length[-CHECKED:]
  expected = SafetyClassifier.of_run(run.workdir, "float32").logits(texts).logits
  logits = SafetyClassifier.load(folder).logits(texts).logits
  difference = float(np.abs(logits - expected).max())
  if not difference <= TOLERANCE:
    raise RunError(
      f"{folder}: the exported logits differ by {difference:.2g} from those of the "
      "run, so nothing was exported; please report this"
    )


if __name__ == "__main__":
  define_flags()
  cli.run(main)

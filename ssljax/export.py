"""Writes a trained classifier as a folder that other programs load.

  python -m ssljax.export --workdir=DIR --output=FOLDER

A run with head="hf" becomes a folder for `transformers`'
AutoModelForSequenceClassification, one with head="mlp" a folder for
`sentence-transformers` (mean pooling, dense, GELU, dense, whose last outputs are the
logits). Voters are folded into one head exactly. No code is shipped.
`ssljax.SafetyClassifier.load(FOLDER)` reads either.
"""

import json
import os
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
from ssljax.inference import load
from ssljax.inference.classifier import CARD, SafetyClassifier
from ssljax.models import read_config, resolve, save_params
from ssljax.models.config import EncoderConfig
from ssljax.runtime import json_files
from ssljax.training import pytrees


def define_flags() -> None:
  flags.DEFINE_string("workdir", None, "folder of a finished run", required=True)
  flags.DEFINE_string("output", None, "folder to write", required=True)


EXACT = 1e-4  # what logits may differ by, before and after
SHOWN = 32  # the first and the longest texts of validation, on which that is looked at


def main() -> int:
  export(flags.FLAGS.workdir, flags.FLAGS.output)
  return 0


def export(workdir: str | Path, output: str | Path) -> None:
  """Writes the folder, whole or not at all, and holds it against the run.

  Raises:
    UserError: the run is not finished; the output is there, or cannot be written.
    RunError: what was written gives other logits.
  """
  run = runs.read(Path(workdir).expanduser())
  output = Path(output).expanduser()
  if output.exists():
    raise UserError(f"--output={output} exists; name a new folder, or remove it")
  fresh = output.with_name(f".{output.name}.{os.getpid()}")
  encoder = resolve(run.config["encoder"])
  try:
    fresh.mkdir(parents=True)
    _write(run, encoder, fresh)
    _hold_against(run, fresh)
    fresh.rename(output)
  except OSError as error:
    raise UserError(
      f"--output={output}: cannot be written ({error}); name another folder"
    ) from None
  finally:
    shutil.rmtree(fresh, ignore_errors=True)
  print(f"{run.workdir}, step {run.result['step']}: {output}")


def _write(run: runs.Run, encoder: Path, folder: Path) -> None:
  chosen, params, _, _ = load.load(run.workdir, run.config, encoder)
  head, labels = run.config["head"], run.labels
  parts = _predicting(params, head)
  longest = run.config["max_length"]
  voters = write_weights(folder, read_config(encoder), parts, head, labels, longest)
  _write_tokenizer(encoder, longest, folder)
  thresholds = run.result["thresholds"]
  json_files.write_json(
    folder / CARD,
    {
      "head": head,
      "voters": voters,
      "labels": labels,
      "max_length": longest,
      "temperature": run.result["temperature"],
      "thresholds": {name: one["threshold"] for name, one in thresholds.items()},
      "method": run.result["method"],
      "step": chosen,
      "params_sha256": pytrees.sha256(params),
    },
  )
  (folder / "README.md").write_text(model_card.card(run, head), encoding="utf-8")


def _write_tokenizer(encoder: Path, longest: int, folder: Path) -> None:
  """The encoder's own, told to cut long texts where ours does."""
  for pattern in TOKENIZER:
    for file in encoder.glob(pattern):
      shutil.copyfile(file, folder / file.name)
  path = folder / "tokenizer_config.json"
  settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
  cut = {"model_max_length": longest, "truncation_side": "left"}
  json_files.write_json(path, {**settings, **cut})


def write_weights(
  folder: Path,
  config: EncoderConfig,
  params: Mapping[str, Any],
  head: str,
  labels: Sequence[str],
  longest: int,
) -> int:
  """Encoder and head of a `Classifier`, in the form that `head` is read in.

  Args:
    params: of the classifier; voters stand under a leading axis of its dense layers.
    longest: tokens of a text.

  Returns:
    How many voters stand side by side in what was written.
  """
  if head == "hf":
    classifier = _averaged(params["classifier"], len(labels))
    parts = {"encoder": params["encoder"], "pooler": params["pooler"]}
    save_params(folder, config, {**parts, "classifier": classifier}, tuple(labels))
    return 1
  kernel = params["classifier"]["kernel"]
  voters = kernel.shape[0] if kernel.ndim == 3 else 1
  save_params(folder, config, params["encoder"])
  _write_dense(params, voters, len(labels), longest, folder)
  return voters


def _predicting(params: Mapping[str, Any], head: str) -> Mapping[str, Any]:
  """With what predicts as the classifier: ABC's is a linear head beside it."""
  linear = params.get("beside_balanced")
  if linear is None:
    return params
  if head == "hf":
    return {**params, "classifier": linear}
  # Such a folder has a GELU in between. x = gelu(x) - gelu(-x): two voters.
  kernel, bias = np.asarray(linear["kernel"]), np.asarray(linear["bias"])
  one = np.eye(len(kernel), dtype=np.float32)
  return {
    **params,
    "dense": {"kernel": np.stack([one, -one]), "bias": np.zeros((2, len(one)))},
    "classifier": {
      "kernel": np.stack([2 * kernel, -2 * kernel]),
      "bias": np.stack([bias, bias]),
    },
  }


def _averaged(dense: Mapping[str, Any], classes: int) -> dict[str, Any]:
  """The mean of linear voters, which is linear; virtual classes go."""
  kernel, bias = (np.asarray(dense[name], np.float64) for name in ("kernel", "bias"))
  if kernel.ndim == 3:
    kernel, bias = kernel.mean(0), bias.mean(0)
  return {"kernel": kernel[:, :classes], "bias": bias[:classes]}


def _write_dense(
  params: Mapping[str, Any], voters: int, classes: int, longest: int, folder: Path
) -> None:
  """The modules behind the encoder, as sentence-transformers names them."""
  up, down = params["dense"], params["classifier"]
  kernel, bias = np.asarray(up["kernel"]), np.asarray(up["bias"])
  last, last_bias = np.asarray(down["kernel"]), np.asarray(down["bias"])
  if kernel.ndim == 3:  # [H, D, W]: the voters' hidden layers side by side
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
  json_files.write_json(folder / "modules.json", modules)
  json_files.write_json(
    folder / "sentence_bert_config.json",
    {"max_seq_length": longest, "do_lower_case": False},
  )
  json_files.write_json(
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
    json_files.write_json(
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


def _hold_against(run: runs.Run, folder: Path) -> None:
  """Scores some texts of validation by what was written and by the run, in float32."""
  said = runs.predictions(run, "validation")
  texts = list(zip(said.text, said.response, strict=True))
  some = (
    texts[:SHOWN] + sorted(texts, key=lambda t: len(t[0]) + len(t[1] or ""))[-SHOWN:]
  )
  exact = SafetyClassifier.of_run(run.workdir, {**run.config, "dtype": "float32"})
  found = SafetyClassifier.load(folder).logits(some).logits
  wanted = exact.logits(some).logits
  apart = float(np.abs(found - wanted).max())
  if not apart <= EXACT:
    raise RunError(
      f"{folder}: its logits differ by {apart:.2g} from those of the run; nothing was "
      "exported. Please report this"
    )


if __name__ == "__main__":
  define_flags()
  cli.run(main)

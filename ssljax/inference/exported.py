"""Loads the model in a folder that `python -m ssljax.export` wrote."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ssljax.data.batches import tokenize
from ssljax.errors import UserError
from ssljax.inference.score import EvalStep
from ssljax.method import Head
from ssljax.models import Encoder, load_params, read_config
from ssljax.models.classifier import Classifier

CARD = "ssljax.json"  # the settings that have no place in a transformers folder
VOTERS = "voters"


class ExportedModel(NamedTuple):
  """The model of an exported folder; fields as in `SafetyClassifier`."""

  tokenizer: Any
  eval_step: EvalStep
  params: Any
  max_length: int
  labels: tuple[str, ...]
  temperature: float
  thresholds: Mapping[str, float | None]


def load_exported(folder: Path) -> ExportedModel:
  """Loads an exported folder.

  Raises:
    UserError: a file is missing or damaged.
  """
  try:
    return _load(folder, json.loads((folder / CARD).read_text(encoding="utf-8")))
  except UserError as error:  # after the semicolon it says how to mend an encoder
    problem = str(error).rpartition("; ")[0] or str(error)
  except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
    problem = repr(error)
  raise UserError(
    f"{folder}: not a readable exported folder ({problem}); export it again"
  )


def _load(folder: Path, card: Mapping[str, Any]) -> ExportedModel:
  head, voters, labels = card["head"], card["voters"], tuple(card["labels"])
  config = read_config(folder)
  heads = {VOTERS: Head("classifier", voters)} if voters > 1 else None
  model = Classifier(Encoder(config), len(labels), head, heads, 0.0)
  if head == "hf":
    params, _ = load_params(folder, config, with_head=True)
  else:
    encoder, _ = load_params(folder, config)
    params = {"encoder": encoder, **_load_mlp_head(folder, voters)}
  return ExportedModel(
    tokenize.load_tokenizer(folder),
    lambda params, texts: model.apply({"params": params}, (texts,)).logits,
    params,
    card["max_length"],
    labels,
    card["temperature"],
    card["thresholds"],
  )


def _load_mlp_head(folder: Path, voters: int) -> dict[str, dict[str, np.ndarray]]:
  """Reads both dense layers and separates voters that export has stacked."""
  layers = []
  for name in ("2_Dense", "3_Dense"):
    tensors = load_file(folder / name / "model.safetensors")
    layers.append((tensors["linear.weight"].T, tensors["linear.bias"]))
  (hidden, hidden_bias), (output, output_bias) = layers
  if voters > 1:
    width, classes = hidden.shape[0], output.shape[1]
    hidden = hidden.reshape(width, voters, -1).transpose(1, 0, 2)
    hidden_bias = hidden_bias.reshape(voters, -1)
    output = output.reshape(voters, -1, classes) * voters  # export divides by them
    output_bias = np.tile(output_bias, (voters, 1))
  return {
    "dense": {"kernel": hidden, "bias": hidden_bias},
    "classifier": {"kernel": output, "bias": output_bias},
  }

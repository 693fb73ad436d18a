"""Loads the model in a folder that `python -m ssljax.export` wrote."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ssljax.data.batches import tokenize
from ssljax.errors import UserError
from ssljax.method import Head
from ssljax.models import Encoder, load_params, read_config
from ssljax.models.classifier import Classifier

CARD = "ssljax.json"  # settings that the other files of the folder can't hold


def load_exported(folder: Path) -> dict[str, Any]:
  """Loads an exported folder; returns the arguments of `SafetyClassifier` by name.

  Raises:
    UserError: a file is missing or damaged.
  """
  try:
    return _load(folder, json.loads((folder / CARD).read_text(encoding="utf-8")))
  except UserError as error:  # its hint, after the semicolon, is about encoders
    problem = str(error).rpartition("; ")[0] or str(error)
  except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
    problem = repr(error)
  raise UserError(
    f"{folder}: not a readable exported folder ({problem}); export the run again"
  )


def _load(folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
  head, voters = card["head"], card["voters"]
  config = read_config(folder)
  heads = {"voters": Head("classifier", voters)} if voters > 1 else None
  model = Classifier(Encoder(config), len(card["labels"]), head, heads, 0.0)
  params, _ = load_params(folder, config, with_head=head == "hf")
  if head != "hf":
    params = {"encoder": params, **_load_mlp_head(folder, voters)}
  names = ("labels", "temperature", "thresholds", "max_length")
  return {
    "tokenizer": tokenize.load_tokenizer(folder, "transformers"),
    "eval_step": lambda params, texts: model.apply({"params": params}, (texts,)).logits,
    "params": params,
    **{name: card[name] for name in names},
  }


def _load_mlp_head(folder: Path, voters: int) -> dict[str, dict[str, np.ndarray]]:
  """Reads both dense layers, and separates the voters that `export` has merged."""
  layers = []
  for name in ("2_Dense", "3_Dense"):
    tensors = load_file(folder / name / "model.safetensors")
    layers.append((tensors["linear.weight"].T, tensors["linear.bias"]))
  (hidden, hidden_bias), (output, output_bias) = layers
  if voters > 1:
    width, classes = hidden.shape[0], output.shape[1]
    hidden = hidden.reshape(width, voters, -1).transpose(1, 0, 2)
    hidden_bias = hidden_bias.reshape(voters, -1)
    output = output.reshape(voters, -1, classes) * voters  # `export` divides by it
    output_bias = np.tile(output_bias, (voters, 1))
  return {
    "dense": {"kernel": hidden, "bias": hidden_bias},
    "classifier": {"kernel": output, "bias": output_bias},
  }

"""Reads and writes Hugging Face folders: config.json and safetensors.

Every tensor of a checkpoint must be in the key table or in `IGNORED` (keys.py);
otherwise loading fails with an error that lists all tensors that do not fit.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ssljax.errors import UserError
from ssljax.models.config import EncoderConfig, from_json, to_json
from ssljax.models.keys import (
  Key,
  is_ignored,
  key_table,
  param_shapes,
  plain_name,
  saved_name,
)
from ssljax.runtime.atomic import atomic_path
from ssljax.runtime.json_files import write_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")

log = logging.getLogger(__name__)

_CLASS = {"bert": "Bert", "deberta-v2": "DebertaV2"}


def read_config(folder: str | Path) -> EncoderConfig:
  """Reads `folder`/config.json.

  Raises:
    UserError: a missing or unreadable file, or an option that is not supported.
  """
  file = Path(folder) / "config.json"
  if not Path(folder).is_dir():
    raise UserError(f"{folder}: no such folder; give the folder of an encoder")
  if not file.is_file():
    raise UserError(
      f"{folder}: no config.json; give the folder of a Hugging Face encoder, with"
      f" config.json and {WEIGHTS}"
    )
  try:
    values = json.loads(file.read_text(encoding="utf-8"))
  except (ValueError, OSError) as error:
    raise UserError(f"{file}: not valid JSON ({error}); download it again") from None
  if not isinstance(values, dict):
    raise UserError(f"{file}: not a JSON object; download it again")
  return from_json(values, str(file))


def load_params(
  folder: str | Path, config: EncoderConfig, with_head: bool = False
) -> tuple[dict[str, Any], tuple[str, ...]]:
  """Reads the parameters from the safetensors of a folder, one file or shards.

  Args:
    folder: of a Hugging Face checkpoint.
    config: `read_config(folder)`.
    with_head: also read the pooler and classifier of ForSequenceClassification, if the
      checkpoint has them.

  Returns:
    (params, ignored): float32 NumPy arrays, whatever the stored float type, as the
    tree of `Encoder`, or with the head {"encoder": tree, "pooler", "classifier"}, each
    head {"kernel", "bias"} and optional; and the names of the ignored tensors.

  Raises:
    UserError: no weights, or an unreadable file, or tensors that are missing, unknown,
      duplicate, of the wrong shape or not finite; one error names all of them.
  """
  folder = Path(folder)
  # Name in the key table -> (name in the file, tensor)
  tensors: dict[str, tuple[str, np.ndarray]] = {}
  ignored, problems = [], []
  for file in _files(folder):
    for name, tensor in _tensors(
      file, lambda name: is_ignored(name, config, with_head)
    ):
      plain = plain_name(name, config)
      if tensor is None:
        ignored.append(name)
      elif plain in tensors:
        problems.append(f"{name} is a duplicate of {tensors[plain][0]}")
      else:
        tensors[plain] = (name, tensor)

  shapes = param_shapes(config)
  params: dict[tuple[str, ...], np.ndarray] = {}
  for part in ("encoder", "pooler", "classifier"):
    table = [key for key in key_table(config) if key.part == part]
    optional = part != "encoder"
    if optional and not any(key.theirs in tensors for key in table):
      continue
    for key in table:
      value = _take(key, tensors, shapes[key.ours], problems)
      if value is not None:
        params[(part, *key.ours) if not optional else key.ours] = value
  problems += [f"unknown key {name}" for name, _ in tensors.values()]
  if problems:
    raise UserError(
      f"{folder}: {len(problems)} tensors do not match the {config.model_type} of its"
      f" config.json: {'; '.join(problems)}; use the config.json that belongs to the"
      " weights"
    )
  if ignored:
    log.info("%s: unused tensors: %s", folder, ", ".join(ignored))
  tree = traverse_util.unflatten_dict(params)
  return (tree if with_head else tree["encoder"]), tuple(ignored)


def save_params(
  folder: str | Path,
  config: EncoderConfig,
  params: Mapping[str, Any],
  labels: tuple[str, ...] | None = None,
) -> None:
  """Writes model.safetensors and config.json, which `transformers` loads.

  Args:
    folder: created if missing; existing files are replaced.
    config: of the encoder.
    params: the tree of `Encoder` (for AutoModel), or {"encoder", "pooler",
      "classifier"} (for AutoModelForSequenceClassification).
    labels: class names of the classifier; by default those of the config, or LABEL_0,
      LABEL_1, ... if their number differs.

  Raises:
    UserError: parameters that do not match the config; one error names all of them.
  """
  with_head = "encoder" in params
  flat = traverse_util.flatten_dict(dict(params) if with_head else {"encoder": params})
  if with_head and ("classifier", "bias") in flat:
    count = len(flat["classifier", "bias"])
    if labels is None and len(config.labels) != count:
      labels = tuple(f"LABEL_{i}" for i in range(count))
    config = dataclasses.replace(config, labels=tuple(labels or config.labels))
    if len(config.labels) != count:
      raise UserError(
        f"{folder}: {len(labels)} labels for a classifier with {count} classes"
      )
  shapes = param_shapes(config)
  tensors, problems = {}, []
  for key in key_table(config):
    path = ("encoder", *key.ours) if key.part == "encoder" else key.ours
    value = flat.pop(path, None)
    if value is None:
      if key.part == "encoder" or with_head:
        problems.append(f"missing {'/'.join(path)}")
      continue
    value = np.asarray(value, np.float32)
    if value.shape != shapes[key.ours]:
      problems.append(
        f"{'/'.join(path)} has shape {value.shape}, not {shapes[key.ours]}"
      )
      continue
    name = saved_name(key, config, with_head)
    for i, array in enumerate(value) if "{layer}" in name else [(None, value)]:
      tensors[name.format(layer=i)] = np.ascontiguousarray(
        _transform(array, key.transform)
      )
  problems += [f"unknown {'/'.join(path)}" for path in flat]
  if problems:
    raise UserError(f"{folder}: cannot save these parameters: {'; '.join(problems)}")

  suffix = "ForSequenceClassification" if with_head else "Model"
  values = to_json(config, _CLASS[config.model_type] + suffix)
  folder = Path(folder)
  with atomic_path(folder / WEIGHTS) as file:
    # transformers before version 5 rejects files without this entry.
    save_file(tensors, file, metadata={"format": "pt"})
  write_json(folder / "config.json", values)


def _tensors(
  file: Path, skip: Callable[[str], bool]
) -> Iterator[tuple[str, np.ndarray | None]]:
  """Yields (name, tensor) of a file, with None for skipped tensors."""
  try:
    with safe_open(file, framework="np") as tensors:
      for name in sorted(tensors.keys()):
        yield name, None if skip(name) else tensors.get_tensor(name)
  except (SafetensorError, OSError) as error:
    raise UserError(
      f"{file}: truncated or not a safetensors file ({error}); download it again"
    ) from None


def _files(folder: Path) -> list[Path]:
  if (folder / WEIGHTS).is_file():
    return [folder / WEIGHTS]
  if (folder / INDEX).is_file():
    try:
      names = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
      files = [folder / Path(name).name for name in sorted(set(names.values()))]
    except (ValueError, KeyError, TypeError, AttributeError):
      raise UserError(
        f"{folder / INDEX}: not a safetensors index; download it again"
      ) from None
    if missing := [file.name for file in files if not file.is_file()]:
      raise UserError(
        f"{folder}: {', '.join(missing)} missing, but listed in {INDEX}; download the"
        " folder again"
      )
    return files
  if any((folder / name).is_file() for name in PICKLED):
    raise UserError(
      f"{folder}: has weights only as {PICKLED[0]}, a pickle, which can run code; run"
      f" python -m ssljax.models.convert {folder} FOLDER, and use FOLDER"
    )
  raise UserError(f"{folder}: no weights; give a folder with config.json and {WEIGHTS}")


def _take(
  key: Key,
  tensors: dict[str, tuple[str, np.ndarray]],
  param_shape: tuple[int, ...],
  problems: list[str],
) -> np.ndarray | None:
  """Pops the tensors of `key` and returns its parameter, or None with a problem."""
  stacked = "{layer}" in key.theirs
  shape = param_shape[1:] if stacked else param_shape
  shape = shape[::-1] if key.transform == "reverse" else shape
  layers = range(param_shape[0]) if stacked else [None]
  arrays = []
  for layer in layers:
    theirs = key.theirs.format(layer=layer)
    if theirs not in tensors:
      problems.append(f"missing key {theirs}")
      continue
    name, tensor = tensors.pop(theirs)
    if tensor.shape != shape:
      problems.append(f"{name} has shape {tensor.shape}, not {shape}")
    elif not jnp.issubdtype(tensor.dtype, jnp.floating):
      problems.append(f"{name} has dtype {tensor.dtype}, not a float type")
    elif not np.isfinite(np.asarray(tensor, np.float32)).all():
      problems.append(f"{name} contains NaN or infinite values")
    else:
      arrays.append(_transform(np.asarray(tensor, np.float32), key.transform))
  if len(arrays) < len(layers):
    return None
  return np.stack(arrays) if stacked else np.ascontiguousarray(arrays[0])


def _transform(value: np.ndarray, transform: str) -> np.ndarray:
  """Applies the transform of a `Key`; each one is its own inverse."""
  return value.transpose() if transform == "reverse" else value

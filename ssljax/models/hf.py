"""Reads and writes Hugging Face folders: config.json and safetensors.

Every tensor of a checkpoint must be in the key table or in `IGNORED`, both in keys.py.
If not, loading fails with an error that lists all tensors that don't match.
"""

import dataclasses
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ssljax.assets.encoders import TOKENIZER
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


def tokenizer_sha256(folder: str | Path) -> str:
  """SHA-256 of config.json and the tokenizer files, with their names.

  config.json may be the only file that names the tokenizer's class.
  """
  digest = hashlib.sha256()
  patterns = ("config.json", *TOKENIZER)
  for file in sorted({f for pattern in patterns for f in Path(folder).glob(pattern)}):
    content = file.read_bytes()
    digest.update(json.dumps([file.name, len(content)]).encode() + content)
  return digest.hexdigest()


def load_params(
  folder: str | Path, config: EncoderConfig, with_head: bool = False
) -> tuple[dict[str, Any], tuple[str, ...]]:
  """Reads the parameters from a folder with safetensors, in one file or in shards.

  Args:
    folder: a Hugging Face checkpoint.
    config: `read_config(folder)`.
    with_head: also read the pooler and classifier of ForSequenceClassification, if the
      checkpoint has them.

  Returns:
    (params, ignored): the parameters and the names of the ignored tensors. Parameters
    are float32 NumPy arrays in the tree of `Encoder`. With the head, they are
    {"encoder": that tree, "pooler": {"kernel", "bias"}, "classifier": {"kernel",
    "bias"}}; an entry is missing if the checkpoint doesn't have it.

  Raises:
    UserError: there are no weights, a file is unreadable, or tensors are missing,
      unknown, duplicate, not finite or have the wrong shape; one error names all.
  """
  folder = Path(folder)
  # Name in the key table -> (name in the file, tensor)
  tensors: dict[str, tuple[str, np.ndarray]] = {}
  ignored, problems = [], []
  files = weight_files(folder)
  if not files and any((folder / name).is_file() for name in PICKLED):
    raise UserError(
      f"{folder}: has weights only as {PICKLED[0]}, a pickle, which can run code; run"
      f" python -m ssljax.models.convert {folder} FOLDER, and use FOLDER"
    )
  if not files:
    raise UserError(f"{folder}: no weights; give a folder with {WEIGHTS}")
  for file in files:
    try:
      with safe_open(file, framework="np") as content:
        for name in sorted(content.keys()):
          plain = plain_name(name, config)
          if is_ignored(name, config, with_head):
            ignored.append(name)
          elif plain in tensors:
            problems.append(f"{name} is a duplicate of {tensors[plain][0]}")
          else:
            tensors[plain] = (name, content.get_tensor(name))
    except (SafetensorError, OSError) as error:
      raise UserError(
        f"{file}: truncated or not a safetensors file ({error}); download it again"
      ) from None

  shapes, table = param_shapes(config), key_table(config)
  present = {"encoder", *(key.part for key in table if key.theirs in tensors)}
  params: dict[str, np.ndarray] = {}
  for key in table:
    if key.part in present:
      value = _take(key, tensors, shapes[key.ours], problems)
      if value is not None:
        params[key.ours] = value
  problems += [f"unknown key {name}" for name, _ in tensors.values()]
  if problems:
    raise UserError(
      f"{folder}: {len(problems)} tensors do not match the {config.model_type} model"
      f" in config.json: {'; '.join(problems)}; use the config.json that belongs to the"
      " weights"
    )
  if ignored:
    log.info("%s: unused tensors: %s", folder, ", ".join(ignored))
  tree = traverse_util.unflatten_dict(params, sep="/")
  return (tree if with_head else tree["encoder"]), tuple(ignored)


def save_params(
  folder: str | Path,
  config: EncoderConfig,
  params: Mapping[str, Any],
  labels: tuple[str, ...] | None = None,
) -> None:
  """Writes model.safetensors and config.json, which `transformers` can load.

  Args:
    folder: created if missing; existing files are replaced.
    params: the tree of `Encoder` (for AutoModel), or {"encoder", "pooler",
      "classifier"} (for AutoModelForSequenceClassification).
    labels: class names of the classifier. The default is the labels of the config. If
      their number isn't the classifier's number of classes, it is LABEL_0, LABEL_1, ...

  Raises:
    UserError: parameters don't match the config; one error names all of them.
  """
  with_head = "encoder" in params
  tree = dict(params) if with_head else {"encoder": params}
  flat = traverse_util.flatten_dict(tree, sep="/")
  if "classifier/bias" in flat:
    count = len(flat["classifier/bias"])
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
    value = flat.pop(key.ours, None)
    if value is None:
      if key.part == "encoder" or with_head:
        problems.append(f"missing {key.ours}")
    elif np.shape(value) != shapes[key.ours]:
      problems.append(f"{key.ours} has shape {np.shape(value)}, not {shapes[key.ours]}")
    else:
      name, value = saved_name(key, config, with_head), np.asarray(value, np.float32)
      for i, array in enumerate(value) if "{layer}" in name else [(None, value)]:
        array = array.T if key.reverse else array
        tensors[name.format(layer=i)] = np.ascontiguousarray(array)
  problems += [f"unknown {path}" for path in flat]
  if problems:
    raise UserError(f"{folder}: cannot save these parameters: {'; '.join(problems)}")

  suffix = "ForSequenceClassification" if with_head else "Model"
  values = to_json(config, _CLASS[config.model_type] + suffix)
  folder = Path(folder)
  with atomic_path(folder / WEIGHTS) as file:
    write_tensors(file, tensors)
  write_json(folder / "config.json", values)


def _reset_mode(file: Path) -> None:
  """Gives a file the mode of new files; safetensors lets only its owner read it."""
  probe = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
  probe.touch()
  shutil.copymode(probe, file)
  probe.unlink()


def write_tensors(
  file: Path, tensors: Mapping[str, Any], save: Callable[..., None] = save_file
) -> None:
  """Writes a safetensors file; raises OSError if the disk is full.

  Args:
    tensors: NumPy arrays, or what `save` writes: safetensors has one function for each
      library.
  """
  try:
    # transformers before version 5 rejects files without this entry.
    save(tensors, file, metadata={"format": "pt"})
    _reset_mode(file)
  except SafetensorError as error:
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number is None:
      raise
    code = int(number[1])
    raise OSError(code, os.strerror(code)) from None


def weight_files(folder: Path, whole: str = WEIGHTS, index: str = INDEX) -> list[Path]:
  """The file `whole`, or the shards that `index` lists; [] if there is neither."""
  if (folder / whole).is_file():
    return [folder / whole]
  if not (folder / index).is_file():
    return []
  try:
    names = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"]
    files = [folder / Path(name).name for name in sorted(set(names.values()))]
  except (ValueError, KeyError, TypeError, AttributeError):
    raise UserError(
      f"{folder / index}: not an index of weight files; download it again"
    ) from None
  if missing := [file.name for file in files if not file.is_file()]:
    raise UserError(
      f"{folder}: {', '.join(missing)} missing, but listed in {index}; download the"
      " folder again"
    )
  return files


def _take(
  key: Key,
  tensors: dict[str, tuple[str, np.ndarray]],
  param_shape: tuple[int, ...],
  problems: list[str],
) -> np.ndarray | None:
  """Pops the tensors of `key` and returns its parameter; None if there are problems."""
  stacked = "{layer}" in key.theirs
  shape = param_shape[1:] if stacked else param_shape
  arrays = []
  for layer in range(param_shape[0] if stacked else 1):
    theirs = key.theirs.format(layer=layer)
    if theirs not in tensors:
      problems.append(f"missing key {theirs}")
      continue
    name, tensor = tensors.pop(theirs)
    expected = shape[::-1] if key.reverse else shape
    if tensor.shape != expected:
      problems.append(f"{name} has shape {tensor.shape}, not {expected}")
    elif not jnp.issubdtype(tensor.dtype, jnp.floating):
      problems.append(f"{name} has dtype {tensor.dtype}, not a float type")
    elif not np.isfinite(tensor := np.asarray(tensor, np.float32)).all():
      problems.append(f"{name} contains NaN or infinite values")
    else:
      arrays.append(tensor.T if key.reverse else tensor)
  if problems:
    return None  # the caller raises an error that lists all problems
  return np.stack(arrays) if stacked else np.ascontiguousarray(arrays[0])

"""Hugging Face safetensors to parameters and back.

Every tensor of a checkpoint is accounted for: it is in the table (keys.py), or in its
`IGNORED` with a reason, or the load fails with a list of all that did not fit.
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
  key_table,
  param_shapes,
  plain_name,
  saved_name,
  unused,
)

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")

log = logging.getLogger(__name__)


_CLASS = {"bert": "Bert", "deberta-v2": "DebertaV2"}


def read_config(folder: str | Path) -> EncoderConfig:
  """The encoder's config from `folder`/config.json.

  Raises:
    UserError: no such folder or file, not JSON, or an option that is not supported.
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
    raise UserError(f"{file}: not readable as JSON ({error}); fetch it again") from None
  if not isinstance(values, dict):
    raise UserError(f"{file}: not a JSON object; fetch it again")
  return from_json(values, str(file))


def load_params(
  folder: str | Path, config: EncoderConfig, with_head: bool = False
) -> tuple[dict[str, Any], tuple[str, ...]]:
  """Parameters from the safetensors of `folder`, one file or shards.

  Args:
    folder: of a Hugging Face checkpoint.
    config: `read_config(folder)`.
    with_head: also the pooler and classifier of ForSequenceClassification, as far as
      the checkpoint has them.

  Returns:
    (params, ignored): float32 NumPy arrays, whatever the stored float type, as the
    tree of `Encoder`, or {"encoder": tree, "pooler"?, "classifier"?} with the head
    (each {"kernel", "bias"}); and the names of the tensors that were left aside.

  Raises:
    UserError: no weights, an unreadable file, or, all in one, every key that is
      missing, unknown, given twice, of a wrong shape or not finite.
  """
  folder = Path(folder)
  found: dict[str, tuple[str, np.ndarray]] = {}  # our spelling -> (their name, tensor)
  ignored, problems = [], []
  for file in _files(folder):
    for name, tensor in _tensors(file, lambda name: unused(name, config, with_head)):
      plain = plain_name(name, config)
      if tensor is None:
        ignored.append(name)
      elif plain in found:
        problems.append(f"{name} is there twice (also as {found[plain][0]})")
      else:
        found[plain] = (name, tensor)

  shapes = param_shapes(config)
  params: dict[tuple[str, ...], np.ndarray] = {}
  for part in ("encoder", "pooler", "classifier"):
    table = [key for key in key_table(config) if key.part == part]
    optional = part != "encoder"
    if optional and not any(key.theirs in found for key in table):
      continue
    for key in table:
      value = _take(key, found, shapes[key.ours], problems)
      if value is not None:
        params[(part, *key.ours) if not optional else key.ours] = value
  problems += [f"unknown key {name}" for name, _ in found.values()]
  if problems:
    raise UserError(
      f"{folder}: {len(problems)} tensors do not fit the {config.model_type} of its"
      f" config.json: {'; '.join(problems)}; take the config.json that belongs to the"
      " weights"
    )
  if ignored:
    log.info("%s: not used: %s", folder, ", ".join(ignored))
  tree = traverse_util.unflatten_dict(params)
  return (tree if with_head else tree["encoder"]), tuple(ignored)


def save_params(
  folder: str | Path,
  config: EncoderConfig,
  params: Mapping[str, Any],
  labels: tuple[str, ...] | None = None,
) -> None:
  """Writes model.safetensors and config.json, which torch transformers loads.

  Args:
    folder: made if it is not there; the two files are replaced.
    config: of the encoder.
    params: the tree of `Encoder` (read by AutoModel), or {"encoder", "pooler",
      "classifier"} (read by AutoModelForSequenceClassification).
    labels: class names of the classifier; None: the config's, or LABEL_0, LABEL_1, ...
      if their number differs.

  Raises:
    UserError: a tree that does not fit the config, with all that is wrong.
  """
  headed = "encoder" in params
  flat = traverse_util.flatten_dict(dict(params) if headed else {"encoder": params})
  if headed and ("classifier", "bias") in flat:
    count = len(flat["classifier", "bias"])
    if labels is None and len(config.labels) != count:
      labels = tuple(f"LABEL_{i}" for i in range(count))
    config = dataclasses.replace(config, labels=tuple(labels or config.labels))
    if len(config.labels) != count:
      raise UserError(f"{folder}: {len(labels)} labels for a classifier of {count}")
  shapes = param_shapes(config)
  tensors, problems = {}, []
  for key in key_table(config):
    path = ("encoder", *key.ours) if key.part == "encoder" else key.ours
    value = flat.pop(path, None)
    if value is None:
      if key.part == "encoder" or headed:
        problems.append(f"missing {'/'.join(path)}")
      continue
    value = np.asarray(value, np.float32)
    if value.shape != shapes[key.ours]:
      problems.append(f"{'/'.join(path)} is {value.shape}, not {shapes[key.ours]}")
      continue
    name = saved_name(key, config, headed)
    for i, one in enumerate(value) if "{layer}" in name else [(None, value)]:
      turned = _turn(one, key.transform)
      tensors[name.format(layer=i)] = np.ascontiguousarray(turned)
  problems += [f"unknown {'/'.join(path)}" for path in flat]
  if problems:
    raise UserError(f"{folder}: cannot save these parameters: {'; '.join(problems)}")

  suffix = "ForSequenceClassification" if headed else "Model"
  values = to_json(config, _CLASS[config.model_type] + suffix)
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  # Releases of transformers before 5 refuse a file that does not say whose it is.
  save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
  (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")


def _tensors(
  file: Path, skip: Callable[[str], bool]
) -> Iterator[tuple[str, np.ndarray | None]]:
  """The name and value of each tensor of a file; None for what is skipped."""
  try:
    with safe_open(file, framework="np") as tensors:
      for name in sorted(tensors.keys()):
        yield name, None if skip(name) else tensors.get_tensor(name)
  except (SafetensorError, OSError) as error:
    raise UserError(
      f"{file}: truncated or not a safetensors file ({error}); fetch it again"
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
        f"{folder / INDEX}: not a safetensors index; fetch it again"
      ) from None
    if missing := [file.name for file in files if not file.is_file()]:
      raise UserError(
        f"{folder}: {INDEX} names {', '.join(missing)}, which is not there; fetch the"
        " folder again"
      )
    return files
  if any((folder / name).is_file() for name in PICKLED):
    raise UserError(
      f"{folder}: weights only as {PICKLED[0]}, a pickle, which is not loaded here;"
      f" run: python -m ssljax.models.convert {folder} FOLDER, and give FOLDER"
    )
  raise UserError(
    f"{folder}: no weights; the folder of an encoder holds config.json and {WEIGHTS}"
  )


def _take(key: Key, found: dict, want: tuple[int, ...], problems: list[str]):
  """The parameter of `key`, its tensors taken out of `found`; None with a problem."""
  stacked = "{layer}" in key.theirs
  shape = want[1:] if stacked else want
  shape = shape[::-1] if key.transform == "reverse" else shape
  layers = range(want[0]) if stacked else [None]
  parts = []
  for layer in layers:
    theirs = key.theirs.format(layer=layer)
    if theirs not in found:
      problems.append(f"missing key {theirs}")
      continue
    name, tensor = found.pop(theirs)
    if tensor.shape != shape:
      problems.append(f"{name} is {tensor.shape}, not {shape}")
    elif not jnp.issubdtype(tensor.dtype, jnp.floating):
      problems.append(f"{name} is {tensor.dtype}, not a float")
    elif not np.isfinite(np.asarray(tensor, np.float32)).all():
      problems.append(f"{name} holds numbers that are not finite")
    else:
      parts.append(_turn(np.asarray(tensor, np.float32), key.transform))
  if len(parts) < len(layers):
    return None
  return np.stack(parts) if stacked else np.ascontiguousarray(parts[0])


def _turn(value: np.ndarray, transform: str) -> np.ndarray:
  """The transform of a `Key`; each is its own inverse."""
  return value.transpose() if transform == "reverse" else value

"""Seals and loads a folder that `python -m ssljax.export` wrote.

`ssljax.json` has the settings that the other files can't hold, the SHA-256 of every
other file, and in `sha256` that of its content. All are checked at load: a
damaged model would otherwise flag nothing, or everything. The model card, README.md, is
left out, since its reader completes it.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ssljax import options
from ssljax.aims import canonical
from ssljax.assets.encoders import SAFETENSORS, TOKENIZER
from ssljax.data.batches import tokenize
from ssljax.errors import UserError
from ssljax.evals import chosen, decisions
from ssljax.inference import outputs
from ssljax.inference.load import first_difference
from ssljax.method import Head
from ssljax.models import Encoder, load_params, read_config
from ssljax.models.attention_kernel import choose
from ssljax.models.classifier import Classifier
from ssljax.models.hf import WEIGHTS, write_tensors
from ssljax.options import REQUIRED, Option, Range
from ssljax.runtime.atomic import atomic_path, flush, sweep
from ssljax.runtime.json_files import plain, write_json
from ssljax.sharding import make_devices

CARD, README = "ssljax.json", "README.md"
HASHES = ("files", "sha256")  # keys of the card that version 0.1.0 didn't write
_SETTINGS = {
  "head": Option("head", str, REQUIRED, choices=("mlp", "hf")),
  "voters": Option("voters", int, REQUIRED, Range(1)),
  "max_length": Option("max_length", int, REQUIRED, Range(4)),
}


def seal(
  folder: Path, settings: Mapping[str, Any], files: Mapping[str, str] | None = None
) -> None:
  """Writes CARD, with the settings and the hashes of the other files.

  Args:
    files: the hash of each file; default: `_hash_files`.
  """
  settings = {n: value for n, value in settings.items() if n not in HASHES}
  card = plain({**settings, "files": files or _hash_files(folder)})
  write_json(folder / CARD, {**card, "sha256": _hash_card(card)})


def _hash_files(folder: Path) -> dict[str, str]:
  """The hashes of all files but CARD, README and hidden ones, such as those of git."""
  paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")))
  names = [
    path.as_posix()
    for path in paths
    if (folder / path).is_file() and not any(p.startswith(".") for p in path.parts)
  ]
  return {n: _hash_file(folder / n) for n in names if n not in (CARD, README)}


def add_thresholds(
  folder: Path, entries: Mapping[str, Mapping[str, Any]], before: float, after: float
) -> dict[str, float | None]:
  """Adds thresholds to the card, beside the others; see `chosen.write`.

  A new temperature goes into the weights of the last layer. They change in one step
  with the card: they are written beside the old ones first, and renamed when the card
  has their hash. If a kill prevents that, `load_exported` renames them.

  Returns:
    All thresholds of the folder, by aim.
  """
  card = json.loads((folder / CARD).read_text(encoding="utf-8"))
  name = WEIGHTS if card["head"] == "hf" else f"3_Dense/{WEIGHTS}"
  _clear(folder, name, card)
  moved = {
    canonical(aim): chosen.convert(value, before, after)
    for aim, value in card["thresholds"].items()
  }
  card["thresholds"] = moved | {n: e["threshold"] for n, e in entries.items()}
  for key, field in (("warnings", "warning"), ("promises", "promise")):
    card[key] = card.get(key, {}) | {n: e[field] for n, e in entries.items()}
  earlier = chosen.convert_entries(card.get("chosen", {}), before, after)
  card["chosen"] = earlier | dict(entries)
  files = card.get("files") or _hash_files(folder)
  if after == before:
    seal(folder, card, files)
    return card["thresholds"]
  card["temperature"] = 1.0
  card["temperature_in_weights"] = after * card.get("temperature_in_weights", 1.0)
  staged = _stage_weights(folder / name, card["head"], after)
  digest = _hash_file(staged)
  try:
    seal(folder, card, {**files, name: digest})
  except OSError:
    staged.unlink(missing_ok=True)
    raise
  flush(folder)  # the card is on disk before the old weights go
  _put_in_place(folder / name, digest)
  return card["thresholds"]


def _staged(file: Path) -> Path:
  return file.with_name(f"{file.name}.new")


def _clear(folder: Path, name: str, card: Mapping[str, Any]) -> None:
  """Completes or deletes what a killed `add_thresholds` has left."""
  file = folder / name
  if name in card.get("files", ()):
    _put_in_place(file, card["files"][name])
  _staged(file).unlink(missing_ok=True)
  sweep(file.parent, _staged(file).name)
  sweep(folder, CARD)


def _stage_weights(file: Path, head: str, temperature: float) -> Path:
  """Writes weights beside `file` whose last layer is divided by a temperature."""
  staged, prefix = _staged(file), "classifier" if head == "hf" else "linear"
  tensors = load_file(file)
  for name in ("weight", "bias"):
    tensors[f"{prefix}.{name}"] = tensors[f"{prefix}.{name}"] / np.float32(temperature)
  with atomic_path(staged) as temporary:
    write_tensors(temporary, tensors)
  return staged


def _put_in_place(file: Path, digest: str) -> bool:
  """Replaces a file by the staged one, if that has this hash; says whether it has."""
  try:
    if _hash_file(_staged(file)) != digest:
      return False
    os.replace(_staged(file), file)
  except FileNotFoundError:  # never staged, or another process was faster
    return _hash_file(file) == digest
  return True


def is_unsealed(folder: Path) -> bool:
  """Whether version 0.1.0 exported this folder, without hashes."""
  try:
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return False
  return isinstance(card, dict) and "voters" in card and not card.keys() & {*HASHES}


def load_exported(folder: Path) -> dict[str, Any]:
  """Loads an exported folder; returns the arguments of `SafetyClassifier` by name.

  Loads it again if `add_thresholds` changes it meanwhile.

  Raises:
    UserError: a file is missing or damaged, or a setting has an impossible value.
  """
  while True:
    content, problem, loaded = b"", "", {}
    try:
      content = (folder / CARD).read_bytes()
      loaded = _load(folder, json.loads(content))
    except UserError as error:  # its hint, after the semicolon, is about encoders
      problem = str(error).rpartition("; ")[0] or str(error)
    except (OSError, ValueError, SafetensorError) as error:
      problem = str(error)
    except (KeyError, TypeError, AttributeError) as error:
      problem = repr(error)
    with contextlib.suppress(OSError):
      if content and (folder / CARD).read_bytes() != content:
        continue
    if not problem:
      return loaded
    raise UserError(
      f"{folder}: not a readable exported folder ({problem}); export the run again"
    )


def _load(folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
  _check_settings(card)
  if any(name in card for name in HASHES):
    _check_hashes(folder, card)
  else:
    print(
      f"{folder}: has no hashes of its files, since version 0.1.0 exported it, so "
      "damage to them can't be noticed; export the run again",
      file=sys.stderr,
    )
  head, voters = card["head"], card["voters"]
  config = read_config(folder)
  if config.max_length and card["max_length"] > config.max_length:
    raise ValueError(
      f"max_length={card['max_length']}: there are {config.max_length} positions"
    )
  heads = {"voters": Head("classifier", voters)} if voters > 1 else None
  encoder = Encoder(config, kernel=choose("auto", config, make_devices()))
  model = Classifier(encoder, len(card["labels"]), head, heads, 0.0)
  params, _ = load_params(folder, config, with_head=head == "hf")
  if head != "hf":
    params = {"encoder": params, **_load_mlp_head(folder, voters)}
  if difference := first_difference(params, model):
    raise ValueError(difference)
  names = ("labels", "temperature", "max_length")
  thresholds = {canonical(name): value for name, value in card["thresholds"].items()}
  return {
    "tokenizer": tokenize.load_tokenizer(folder, "transformers"),
    "eval_step": lambda params, texts: model.apply({"params": params}, (texts,)).logits,
    "outputs_step": outputs.make_step(
      model, lambda out: out.logits, len(card["labels"]), "voters" if heads else ""
    ),
    "params": params,
    **{name: card[name] for name in names},
    "thresholds": thresholds,
    "warnings": card.get("warnings", {}),
  }


def _check_settings(card: Mapping[str, Any]) -> None:
  """Raises ValueError, KeyError or TypeError for what `export` can't have written."""
  options.check(_SETTINGS, {name: card[name] for name in _SETTINGS})
  labels = card["labels"]
  if len(labels) < 2 or len({str(label) for label in labels}) < len(labels):
    raise ValueError(f"labels={labels!r}: they must be two or more different names")
  decisions.check_rule(card["temperature"], card["thresholds"])


def _check_hashes(folder: Path, card: Mapping[str, Any]) -> None:
  """Raises ValueError if a file isn't as `seal` left it."""
  files = card["files"]
  others = {name: value for name, value in card.items() if name != "sha256"}
  if card["sha256"] != _hash_card(others):
    raise ValueError(f"{CARD} has changed since the export")
  for name, digest in files.items():
    file = folder / name
    if _hash_file(file) != digest and not _put_in_place(file, digest):
      raise ValueError(f"{name} has changed since the export")
  # Other new files, such as a .gitattributes, change no score.
  for pattern in (*TOKENIZER, *SAFETENSORS):
    for path in folder.glob(pattern):
      if path.name not in files:
        raise ValueError(f"{path.name} was added since the export")


def _hash_file(path: Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_card(card: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()


def _load_mlp_head(folder: Path, voters: int) -> dict[str, dict[str, np.ndarray]]:
  """Reads both dense layers, and separates the voters that `export` has merged."""
  layers = []
  for name in ("2_Dense", "3_Dense"):
    tensors = load_file(folder / name / "model.safetensors")
    layers.append((tensors["linear.weight"].T, tensors["linear.bias"]))
    if not all(np.isfinite(tensor).all() for tensor in layers[-1]):
      raise ValueError(f"{name}/model.safetensors contains NaN or infinite values")
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

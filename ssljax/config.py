"""Checks a config and fills in what follows from it and from the data."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssljax.errors import UserError

CHOICES = {
  "head": ("mlp", "hf"),
  "layout": ("packed", "padded"),
  "parallel": ("jit", "pmap"),
  "dtype": ("float32", "bfloat16"),
  "prng": ("rbg", "threefry2x32"),
  "balance": ("balanced", "stratified"),
  "on_overlap": ("error", "drop"),
  "tokenizer_backend": ("hf", "tftext"),
  "missing_view": ("error", "words", "self", "drop"),
  "select": ("f1", "macro_f1", "accuracy", "precision", "recall", "auroc", "auprc"),
}
LEAST = {
  "labels": 0,
  "seed": 0,
  "batch": 1,
  "unlabelled_ratio": 1,
  "steps": 0,
  "passes": 1,
  "accumulation": 1,
  "max_length": 8,
  "eval_every": 0,
  "checkpoint_every": 0,
  "log_every": 1,
  "patience": 0,
  "warmup": -1,
  "fsdp": 1,
  "learning_rate": 0.0,
  "weight_decay": 0.0,
  "clip": 0.0,
}
MOST = {"seed": 2**31 - 1}
SHARES = ("dropout", "ema", "layer_decay")  # 0 <= value <= 1
# Keys that may differ when a run is continued: they change no result.
FREE = ("distributed", "dry_run", "tokenizer_backend", "resolved.row_lengths")


def check(config: Mapping[str, Any]) -> None:
  """What can be said before any file is read.

  Raises:
    UserError: names the key, its value and what it may be.
  """
  if not config["data"]:
    raise UserError(
      "no data: set --config.data to a folder with train, validation and test files, "
      "to files separated by commas, or to pyrit to try it out"
    )
  for key, allowed in CHOICES.items():
    if config[key] not in allowed:
      raise UserError(
        f"--config.{key}={config[key]!r}: it is one of {', '.join(allowed)}"
      )
  for key, least in LEAST.items():
    if not config[key] >= least or math.isinf(config[key]):
      raise UserError(f"--config.{key}={config[key]}: it must be at least {least}")
  for key, most in MOST.items():
    if config[key] > most:
      raise UserError(f"--config.{key}={config[key]}: it must be at most {most}")
  for key in SHARES:
    if not 0 <= config[key] <= 1 or (key != "layer_decay" and config[key] == 1):
      raise UserError(f"--config.{key}={config[key]}: it must lie between 0 and 1")
  # Dropout draws one byte an entry: see models/dropout.py.
  if config["dropout"] > 0 and not 0 < round(256 * config["dropout"]) < 256:
    raise UserError(
      f"--config.dropout={config['dropout']}: rates are multiples of 1/256; give 0, or "
      "something from 0.002 to 0.998"
    )
  for key in ("labelled_imbalance", "unlabelled_imbalance"):
    if config[key] and not 1 <= abs(config[key]) < math.inf:
      raise UserError(
        f"--config.{key}={config[key]}: give 0, or a ratio of 1 or more (10: the first "
        "class is ten times the last; -10: the other way round)"
      )
    if config[key] and not config["labels"]:
      raise UserError(
        f"--config.{key}={config[key]:g} shapes a budget and what it leaves, and "
        "--config.labels=0 takes every label; set one, --config.labels=200"
      )
  for key in ("weak", "medium", "strong"):
    kinds = config[key]
    if not kinds or not all(isinstance(kind, str) and kind for kind in kinds):
      raise UserError(
        f"--config.{key}={kinds!r}: give one kind of view or several, "
        f"--config.{key}=\"('llm','words')\""
      )


def steps_of(config: Mapping[str, Any], labelled: int) -> dict[str, int]:
  """The step counts that the config leaves to the data: 0 and -1 filled in."""
  epoch = math.ceil(labelled / config["batch"])
  steps = config["steps"] or config["passes"] * epoch
  warmup = config["warmup"] if config["warmup"] >= 0 else epoch
  return {
    "epoch_steps": epoch,
    "steps": steps,
    "warmup": min(warmup, steps - 1),
    "eval_every": min(config["eval_every"] or epoch, steps),
  }


def method_name(config: Mapping[str, Any]) -> str:
  """The method, "abc over fixmatch" where it is in a wrapper."""
  wrapper, method = config["wrapper"]["name"], config["method"]["name"]
  return f"{wrapper} over {method}" if wrapper else method


def difference(old: Mapping[str, Any], new: Mapping[str, Any], where="") -> list[str]:
  """`key: old -> new` for each key in which two configs differ."""
  found = []
  for key in sorted({*old, *new}):
    a, b = old.get(key), new.get(key)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
      found += difference(a, b, f"{where}{key}.")
    elif where + key not in FREE and _plain(a) != _plain(b):
      found.append(f"{where}{key}: {a!r} there, {b!r} now")
  return found


def read(workdir: Path) -> dict[str, Any]:
  """config.json of a run.

  Raises:
    UserError: the folder holds no run.
  """
  path = workdir / "config.json"
  way_out = "give the --workdir of a run"
  try:
    config = json.loads(path.read_text(encoding="utf-8"))
  except (FileNotFoundError, NotADirectoryError):
    raise UserError(f"{workdir}: no run here (no config.json); {way_out}") from None
  except (OSError, ValueError) as error:  # ValueError: not UTF-8, or not JSON
    raise UserError(f"{path}: cannot be read ({error}); {way_out}") from None
  if not isinstance(config, dict) or "resolved" not in config:
    raise UserError(f"{path}: not the config.json of a run; {way_out}")
  config.setdefault("wrapper", {"name": ""})  # which older runs have not
  return config


def _plain(value: Any) -> Any:
  return list(value) if isinstance(value, tuple) else value

"""The saved config of a run: reads it, completes it and compares it with another."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssljax import options
from ssljax.config import KEYS
from ssljax.errors import UserError
from ssljax.options import Option

# Keys that may differ when a run is continued: they change no result.
FREE = ("distributed", "dry_run", "tokenizer_backend", "resolved.row_lengths")


def read(workdir: Path) -> dict[str, Any]:
  """Reads config.json of a run.

  Keys that are newer than the run have the value that stands for its version's
  behaviour, which is not always today's default (see `options.Absent`).

  Raises:
    UserError: the folder holds no run.
  """
  path = workdir / "config.json"
  advice = "give the --workdir of a run"
  try:
    config = json.loads(path.read_text(encoding="utf-8"))
  except (FileNotFoundError, NotADirectoryError):
    raise UserError(f"{workdir}: no run here (no config.json); {advice}") from None
  except (OSError, ValueError) as error:  # ValueError: not UTF-8, or not JSON
    raise UserError(f"{path}: cannot be read ({error}); {advice}") from None
  if not isinstance(config, dict) or "resolved" not in config:
    raise UserError(f"{path}: not the config.json of a run; {advice}")
  return complete(config)


def complete(saved: Mapping[str, Any]) -> dict[str, Any]:
  """A saved config with the keys that are newer than the run."""
  saved = {"wrapper": {"name": ""}, **saved}
  absent = {name: option.absent for name, option in KEYS.items()}
  completed = {**absent, **saved}
  for module, described in _keywords(saved).items():
    absent = {name: option.absent for name, option in described.items()}
    completed[module] = {**absent, **saved[module]}
  return completed


def continued(
  workdir: Path, config: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
  """The config with which a run is continued.

  A key that the saved config lacks keeps the behaviour of the version that saved it,
  unless `config` sets it to something else than its default.

  Returns:
    The config, and a line for each key whose value is not that of `config`.
  """
  path = workdir / "config.json"
  if not path.exists():
    return dict(config), []
  complete_config = read(workdir)
  saved = json.loads(path.read_text(encoding="utf-8"))
  result, notes = dict(config), []
  groups = [("", KEYS)] + [(f"{m}.", d) for m, d in _keywords(config).items()]
  for prefix, described in groups:
    module = prefix.rstrip(".")
    there = saved.get(module, {}) if module else saved
    values = dict(result[module]) if module else result
    if module and there.get("name") != values["name"]:
      continue  # another method: `difference` will say so
    old = complete_config[module] if module else complete_config
    for name, option in described.items():
      newer = name not in there and old.get(name, option.default) != option.default
      if newer and values.get(name, option.default) == option.default:
        values[name] = old[name]
        notes.append(
          f"{prefix}{name}={options.show(old[name])}: the run was started by a version "
          "without this key and keeps its behaviour"
        )
    if module:
      result[module] = values
  return result, notes


def difference(
  saved: Mapping[str, Any], config: Mapping[str, Any], prefix: str = ""
) -> list[str]:
  """One string for each key in which two configs differ.

  What follows from the data ("resolved") is compared as far as the saved config has it.
  """
  differences = []
  for key in sorted({*saved, *config}):
    a, b = saved.get(key), config.get(key)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
      differences += difference(a, b, f"{prefix}{key}.")
    elif prefix.startswith("resolved.") and key not in saved:
      continue
    elif prefix + key not in FREE and _plain(a) != _plain(b):
      differences.append(f"{prefix}{key}: {a!r} there, {b!r} now")
  return differences


def _keywords(config: Mapping[str, Any]) -> dict[str, dict[str, Option]]:
  """The options of the config's method and wrapper."""
  from ssljax import methods, wrappers  # here: they load JAX

  described = {}
  for module, package in (("method", methods), ("wrapper", wrappers)):
    name = config.get(module, {}).get("name")
    if name:
      # A method of another package may be missing; whoever runs it will say so.
      with contextlib.suppress(UserError):
        described[module] = package.describe(name)
  return described


def _plain(value: Any) -> Any:
  return list(value) if isinstance(value, tuple) else value

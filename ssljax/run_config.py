"""Reads and completes the saved config of a run; compares it with another config."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssljax import options
from ssljax.config import KEYS
from ssljax.errors import UserError
from ssljax.options import Option

# These keys may change when a run is continued, because they change no result.
FREE = (
  *("distributed", "dry_run", "tokenizer_backend", "verify", "tracker", "profile"),
  "resolved.row_lengths",
)
# Hashes in "resolved" of what a run reads from its encoder's folder.
ENCODER_FILES = {
  "tokenizer_sha256": "config.json or the tokenizer files",
  "weights_sha256": "the weights",
}
# Keys whose values are places, with the hashes of what is there. A run continues with
# the same content at another place.
PLACES = {
  "data": ("rows_sha256",),
  "encoder": tuple(ENCODER_FILES),
  "pseudo_labels": ("rows_sha256",),
}
# Older versions only wrote `data_sha256`, which depends on the names of files.
OLDER = {"rows_sha256": "data_sha256"}


def absolute(place: str) -> str:
  """Makes a path, or several separated by commas, absolute.

  Anything else, such as a name on the Hub, is returned unchanged.
  """
  names = [place] if place else []
  if place and not Path(place).expanduser().exists() and "," not in str(Path.cwd()):
    names = [name.strip() for name in place.split(",") if name.strip()]
  paths = [Path(name).expanduser() for name in names]
  if paths and all(path.exists() for path in paths):
    return ",".join(str(path.absolute()) for path in paths)
  return place


def read(workdir: Path) -> dict[str, Any]:
  """Reads config.json of a run.

  A key that didn't exist yet when the run was saved gets the value with which the run
  behaves as before. This isn't always today's default (see `options.Absent`).

  Raises:
    UserError: there is no run in the folder.
  """
  saved = _read_saved(workdir)
  config = _absent(KEYS) | saved
  for module, described in _keywords(saved).items():
    config[module] = _absent(described) | saved[module]
  return config


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
  """Adds the keywords of the method and wrapper that the config leaves out."""
  from ssljax import methods, wrappers  # here, because they load JAX

  preset = config.get("preset", "")
  return {
    **config,
    "method": methods.complete(config["method"], preset),
    "wrapper": wrappers.complete(config["wrapper"], preset),
  }


def preset_values(config: Mapping[str, Any]) -> str:
  """Says which values of a config its preset replaces; "" if it replaces none."""
  if not config["preset"]:
    return ""
  new = complete(config)
  values = [
    f"{module}.{name}={options.as_flag(value)}"
    for module in ("method", "wrapper")
    for name, value in new[module].items()
    if _plain(config[module].get(name)) != _plain(value)
  ]
  return f"preset={config['preset']}: {', '.join(values)}" if values else ""


def continued(
  workdir: Path, config: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
  """Returns the config with which a run continues.

  If the saved config lacks a key, the key gets the value with which the run behaves as
  before, unless `config` sets the key to another value than its default. A run of
  version 0.1.0 also keeps values that were the defaults then, and so does any run with
  a former default (see `options.Absent`).

  Returns:
    The config, and a line for each key whose value differs from `config`.
  """
  result, notes = dict(config), []
  if not (workdir / "config.json").exists():
    return result, notes
  saved, complete = _read_saved(workdir), read(workdir)
  for module, described in ({"": KEYS} | _keywords(config)).items():
    there, old, new = (c[module] if module else c for c in (saved, complete, config))
    if there.get("name") != new["name"]:
      continue  # `difference` will report it
    other_defaults = module == "method" and _has_other_defaults(saved)
    first = _is_of_first_version(saved)
    kept = {
      name: old[name]
      for name, option in described.items()
      if (
        name not in there
        or other_defaults
        or (first and _plain(there[name]) == _plain(option.absent))
        or _plain(there[name]) in map(_plain, option.former)
      )
      and _plain(new[name]) == _plain(option.default) != _plain(old[name])
    }
    if module:
      result[module] = {**new, **kept}
    else:
      result |= kept
    notes += [
      f"{f'{module}.' if module else ''}{name}={options.as_flag(value)}: an older "
      "version started the run, so it keeps that version's behaviour"
      for name, value in kept.items()
    ]
  return result, notes


def _has_other_defaults(saved: Mapping[str, Any]) -> bool:
  """Whether the method of a saved config has all defaults of another method.

  With --config=A --config.method.name=B, version 0.1.0 gave B the defaults of A.
  """
  from ssljax import methods

  if not _is_of_first_version(saved):
    return False
  keywords = {key: value for key, value in saved["method"].items() if key != "name"}
  return keywords in [methods.defaults(name) for name in methods.names()]


def _is_of_first_version(saved: Mapping[str, Any]) -> bool:
  return "verify" not in saved  # a key that version 0.1.0 didn't have


def difference(
  saved: Mapping[str, Any], config: Mapping[str, Any], prefix: str = ""
) -> list[str]:
  """Returns one string for each key whose values differ between two configs.

  In "resolved", which depends on the data, only keys of the saved config are compared.
  If `config` doesn't have it yet, the content of PLACES isn't compared.
  """
  differences = []
  for key in sorted({*saved, *config}):
    a, b = saved.get(key), config.get(key)
    if not prefix and key == "resolved" and key not in config:
      continue
    if not prefix and key in PLACES and _may_be_same(key, saved, config):
      continue
    if isinstance(a, Mapping) and isinstance(b, Mapping):
      differences += difference(a, b, f"{prefix}{key}.")
    elif prefix.startswith("resolved.") and not _is_compared(key, saved):
      continue
    elif prefix + key not in FREE and not _is_same(prefix + key, a, b):
      differences.append(f"{prefix}{key}: {a!r} in the run, {b!r} now")
  return differences


def _is_compared(key: str, saved: Mapping[str, Any]) -> bool:
  """Whether a key of "resolved" counts, or a newer one does in its place."""
  newer = [new for new, old in OLDER.items() if key == old]
  return key in saved and not any(new in saved for new in newer)


def _is_same(key: str, saved: Any, value: Any) -> bool:
  if key == "resolved.labels":
    return same_labels(saved, value)
  return _plain(saved) == _plain(value)


def same_labels(saved: Sequence[str], labels: Sequence[str]) -> bool:
  """Whether the class names of a run are those of its data.

  Version 0.1.0 didn't read the names that a Parquet file declares, and numbered the
  classes.
  """
  return len(saved) == len(labels) and all(
    old in (new, str(i)) for i, (old, new) in enumerate(zip(saved, labels, strict=True))
  )


def check_encoder(
  workdir: Path, config: Mapping[str, Any], hashes: Mapping[str, Any]
) -> None:
  """Checks that the encoder's files are those that the run was started with.

  Args:
    config: config.json of the run. Version 0.1.0 wrote no hashes: they aren't checked.
    hashes: current values of some or all ENCODER_FILES.

  Raises:
    UserError: files have changed.
  """
  for name, files in ENCODER_FILES.items():
    saved = config["resolved"].get(name)
    if saved and name in hashes and saved != hashes[name]:
      raise UserError(
        f"{workdir}: {files} of its encoder {config['encoder']} have changed since the "
        "run started; restore them, or train again in a new folder"
      )


def _may_be_same(key: str, saved: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
  """Whether the data or the encoder is the same, by its place or by its hashes.

  True if hashes were saved but aren't computed yet.
  """
  if absolute(saved.get(key) or "") == absolute(config.get(key) or ""):
    return True
  old, new = saved.get("resolved", {}), config.get("resolved")
  names = [name if name in old else OLDER.get(name, name) for name in PLACES[key]]
  return all(
    old.get(name) and (new is None or old[name] == new.get(name)) for name in names
  )


def not_found(workdir: Path, key: str, error: UserError, more: str = "") -> UserError:
  """The error for data or an encoder that a run no longer finds.

  Args:
    key: "data" or "encoder".
    error: says what is wrong there.
    more: another way out.
  """
  reason = str(error).partition(";")[0]
  return UserError(
    f"{workdir}: its {key} can't be read: {reason}; put it back, or set {key} in "
    f"{workdir / 'config.json'} to where it is{more}"
  )


def at_same_places(workdir: Path, config: Mapping[str, Any]) -> bool:
  """Whether a saved run names the same paths as `config` for its data and encoder."""
  saved = read(workdir)
  return all(absolute(saved[key]) == absolute(config[key]) for key in PLACES)


def _read_saved(workdir: Path) -> dict[str, Any]:
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
  return {"wrapper": {"name": ""}, **config}


def _absent(described: Mapping[str, Option]) -> dict[str, Any]:
  """Returns the values of options in a saved config that lacks them."""
  return {name: option.absent for name, option in described.items()}


def _keywords(config: Mapping[str, Any]) -> dict[str, dict[str, Option]]:
  """Returns the options of the config's method and wrapper."""
  from ssljax import methods, wrappers  # here, because they load JAX

  described = {}
  for module, package in (("method", methods), ("wrapper", wrappers)):
    name = config.get(module, {}).get("name")
    if name:
      # A method of another package may be missing; the error comes when it's needed.
      with contextlib.suppress(UserError):
        described[module] = package.describe(name)
  return described


def _plain(value: Any) -> Any:
  return list(value) if isinstance(value, tuple) else value

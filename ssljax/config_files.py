"""Finds config files by name or path, and loads them."""

import contextlib
import importlib.machinery
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from ssljax import configs, options
from ssljax.errors import UserError


def folder(kind: str = "") -> Path:
  """Returns the folder of the configs that come with the package.

  Args:
    kind: "" for training, "augment" for augmentation, "sweeps" for sweeps.
  """
  return Path(configs.__path__[0], kind)


def find(source: str, kind: str = "", flag: str = "--config") -> tuple[Path, str]:
  """Splits "fixmatch:response" or "my/config.py:response" into a path and an argument.

  Args:
    source: path of a config file, or name of a config that comes with the package.
    kind: as in `folder`.
    flag: the flag that gave `source`, for errors.

  Raises:
    UserError: there is no such config.
  """
  name, _, argument = source.partition(":")
  path = Path(name).expanduser()
  if path.suffix == ".py":
    if not path.is_file():
      raise UserError(f"{flag}={source}: no file {name} in {Path.cwd()}")
    return path, argument
  packaged = folder(kind)
  names = [file.stem for file in packaged.glob("*.py") if file.stem[0] != "_"]
  if name not in names:
    raise UserError(
      f"{flag}={source}: no config {name!r}{options.nearest(name, names)} (or give "
      "the path of a file that ends in .py)"
    )
  return packaged / f"{name}.py", argument


def load(path: Path, argument: str = "") -> ml_collections.ConfigDict:
  """Runs the `get_config` of a config file, with the argument if there is one.

  Raises:
    UserError: the file raises an error, whose line is in the message.
  """
  arguments = [argument] if argument else []
  config = execute(path, lambda module: module.get_config(*arguments))
  if not isinstance(config, ml_collections.ConfigDict):
    raise UserError(f"{path}: get_config returns {config!r}, not a ConfigDict")
  return config


def execute(path: Path, call: Callable[[Any], Any]) -> Any:
  """Executes a config file and returns the result of `call`, which gets the module.

  Raises:
    UserError: the file or the call raises an error, whose line is in the message.
  """
  try:
    with importing_neighbours(path):
      loader = importlib.machinery.SourceFileLoader(f"config_{path.stem}", str(path))
      module = types.ModuleType(loader.name)
      loader.exec_module(module)
      return call(module)
  except UserError:
    raise
  except (Exception, SystemExit) as error:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    line = getattr(error, "lineno", None) or (lines or [None])[-1]
    raise UserError(
      f"{path}{f', line {line}' if line else ''}: {type(error).__name__}: {error}"
    ) from error


def get_value(
  config: ml_collections.ConfigDict, path: Sequence[str], place: str = "--config"
) -> Any:
  """Returns the value of a key, such as ["method", "threshold"].

  Raises:
    UserError: there is no such key; the message names the nearest key, or all keys.
  """
  value = config
  for key in path:
    keys = value.keys() if isinstance(value, ml_collections.ConfigDict) else []
    if key not in keys:
      others = keys if place == "--config" else {*keys} - {"name"}
      hint = options.nearest(key, others) or _why_none(value, place)
      raise UserError(f"unknown config key {place}.{key}{hint}")
    value, place = value[key], f"{place}.{key}"
  return value


def _why_none(value: Any, place: str) -> str:
  """Says why a value has no keys besides `name`."""
  if not isinstance(value, ml_collections.ConfigDict):
    return f"; {place}={value!r} has no keys"
  name = value.get("name")
  return f"; {name} has no keywords" if name else f"; first set {place}.name"


def update(
  config: ml_collections.ConfigDict, changes: Mapping[str, Any], place: str = "--config"
) -> None:
  """Sets keys of a config. `method` and `wrapper` take a mapping of their keys.

  Raises:
    UserError: there is no such key, or the value has the wrong type.
  """
  for key, value in changes.items():
    old = get_value(config, [key], place)
    if isinstance(old, ml_collections.ConfigDict):
      if not isinstance(value, Mapping):
        raise UserError(f"{place}.{key}={value!r}: give a mapping of keys")
      update(old, value, f"{place}.{key}")
      continue
    if isinstance(old, tuple) and isinstance(value, str | list):
      value = tuple(value.split(",") if isinstance(value, str) else value)
    try:
      config[key] = value
    except TypeError as error:
      raise UserError(f"{place}.{key}={value!r}: {error}") from None


@contextlib.contextmanager
def importing_neighbours(path: Path) -> Iterator[None]:
  """Makes `import configs` find the folder of a config file, inside the block.

  So the files in the configs/ of a checkout can import each other from any directory.
  """
  parent = str(path.resolve().parent.parent)
  if parent in sys.path:
    yield
    return
  sys.path.append(parent)
  try:
    yield
  finally:
    sys.path.remove(parent)

"""Finds config files by name or path, and loads them."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_collections

from ssljax import configs, options
from ssljax.errors import UserError


def folder(kind: str = "") -> Path:
  """The folder of the configs that come with the package.

  Args:
    kind: "" for training, "augment" for augmentation.
  """
  return Path(configs.__path__[0], kind)


def find(source: str, kind: str = "") -> tuple[Path, str]:
  """Splits "fixmatch:response" or "my/config.py:response" into a path and an argument.

  Args:
    source: path of a config file, or name of one that comes with the package.
    kind: as in `folder`.

  Raises:
    UserError: there is no such file.
  """
  name, _, argument = source.partition(":")
  path = Path(name).expanduser()
  if path.suffix == ".py":
    if not path.is_file():
      raise UserError(f"--config={source}: no file {name} in {Path.cwd()}")
    return path, argument
  packaged = folder(kind)
  names = [file.stem for file in packaged.glob("*.py") if file.stem[0] != "_"]
  if name not in names:
    raise UserError(
      f"--config={source}: no config {name!r}{options.nearest(name, names)} (or give "
      "the path of a file that ends in .py)"
    )
  return packaged / f"{name}.py", argument


def load_config(source: str, **changes: Any) -> ml_collections.ConfigDict:
  """Loads a config and changes some of its keys.

  >>> config = load_config("fixmatch", data="pyrit", labels=100, method={"scale": 2.0})
  >>> config.labels, config.method.threshold
  (100, 0.95)

  Args:
    source: name of a config of the package, or path of a file; behind a colon its
      argument, as in "fixmatch:response" or "fixmatch:prompt+abc".
    **changes: new values by key; of `method` and `wrapper` a dict of keywords.

  Returns:
    The config, locked: setting a key that doesn't exist raises an AttributeError.

  Raises:
    UserError: no such file or key, or a value of another type.
  """
  path, argument = find(source)
  with importing_neighbours(path):
    spec = importlib.util.spec_from_file_location(f"ssljax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
      raise UserError(f"--config={path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
  config = module.get_config(*[argument] if argument else [])
  _update(config, changes, "")
  return config.lock()


@contextlib.contextmanager
def importing_neighbours(path: Path) -> Iterator[None]:
  """Inside the block, `import configs` finds the folder of a config file.

  This lets the files of a checkout's configs/ import each other in any working directory.
  """
  parent = str(path.resolve().parent.parent)
  sys.path.append(parent)
  try:
    yield
  finally:
    sys.path.remove(parent)


def _update(config: ml_collections.ConfigDict, changes: dict, prefix: str) -> None:
  for key, value in changes.items():
    if key not in config:
      raise UserError(
        f"unknown config key {prefix}{key}{options.nearest(key, config.keys())}"
      )
    if isinstance(value, dict):
      _update(config[key], value, f"{prefix}{key}.")
      continue
    if isinstance(value, list) or (
      isinstance(value, str) and isinstance(config[key], tuple)
    ):
      value = tuple(value) if isinstance(value, list) else (value,)
    try:
      config[key] = value
    except TypeError as error:
      raise UserError(f"config key {prefix}{key}={value!r}: {error}") from None

"""Finds methods and wrappers by module name; each module has a function `make`."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any

from ssljax import options
from ssljax.errors import UserError


def names(package: ModuleType) -> list[str]:
  """All modules of a package except its `HELPERS`."""
  modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
  return sorted(modules.difference(getattr(package, "HELPERS", ())))


def module(package: ModuleType, name: str) -> ModuleType:
  """The module `name` of the package; imports a dotted name from anywhere.

  Raises:
    UserError: the module doesn't exist, can't be imported or has no `make`.
  """
  kind = _kind(package)
  if "." not in name:
    if name not in names(package):
      hint = options.nearest(name, names(package))
      raise UserError(
        f"unknown {kind} {name!r} (--config.{kind}.name){hint}"
        f"{'' if hint.endswith('?') else '.'} A module of your own needs its dotted "
        f"name, such as my_package.my_{kind}"
      )
    return importlib.import_module(f"{package.__name__}.{name}")
  try:
    imported = importlib.import_module(name)
  except Exception as error:  # whatever the module raises
    raise UserError(
      f"--config.{kind}.name={name}: cannot import it "
      f"({type(error).__name__}: {error}); check the name, and that its folder is "
      "installed or on PYTHONPATH"
    ) from error
  if not callable(getattr(imported, "make", None)):
    raise UserError(
      f"--config.{kind}.name={name}: {imported.__file__} defines no function make "
      "(see docs/adding-a-method.md)"
    )
  return imported


def bind(package: ModuleType, config: Mapping[str, Any]) -> partial:
  """The `make` of the module `config["name"]` with the other items as its keywords.

  Its keywords are the parameters that have a default.

  Raises:
    UserError: an unknown name or keyword, or a value out of a keyword's range.
  """
  kind, name = _kind(package), config["name"]
  make = module(package, name).make
  keywords = {key: value for key, value in config.items() if key != "name"}
  accepted = options.describe(make)
  for key in keywords:
    if key not in accepted:
      raise UserError(
        f"{kind} {name} has no keyword {key!r} (--config.{kind}.{key})"
        f"{options.nearest(key, accepted) or '; it has no keywords'}"
      )
  try:
    options.check(accepted, keywords)
  except ValueError as error:
    raise UserError(f"--config.{kind}.{error} ({name})") from None
  return partial(make, **keywords)


def _kind(package: ModuleType) -> str:
  """The config key of the package: "method" for ssljax.methods."""
  return package.__name__.rsplit(".", 1)[-1].rstrip("s")

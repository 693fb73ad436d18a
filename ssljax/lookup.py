"""Finds methods and wrappers by module name; each module has a function `make`."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ssljax import options
from ssljax.errors import UserError


def names(package: ModuleType) -> list[str]:
  """All modules of a package except its `HELPERS`."""
  modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
  return sorted(modules.difference(getattr(package, "HELPERS", ())))


def module(package: ModuleType, name: str) -> ModuleType:
  """The module `name` of the package; a dotted name is imported from anywhere.

  Raises:
    UserError: no such module, or it can't be imported, or it has no `make`.
  """
  kind = _kind(package)
  if "." not in name:
    if name not in names(package):
      raise UserError(
        f"unknown {kind} {name!r} (--config.{kind}.name)"
        f"{options.nearest(name, names(package))}; for a module of your own, give its "
        f"dotted name, such as my_package.my_{kind}"
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


def factory(package: ModuleType, name: str) -> Callable:
  """The `make` of a module; its keywords are the parameters that have a default.

  Raises:
    UserError: as `module`.
  """
  return module(package, name).make


def defaults(make: Callable) -> dict[str, Any]:
  """Keywords of `make` with their defaults."""
  return {
    key: parameter.default
    for key, parameter in inspect.signature(make).parameters.items()
    if parameter.default is not inspect.Parameter.empty
  }


def checked(package: ModuleType, config: Mapping[str, Any]) -> dict[str, Any]:
  """The keywords in `config`, whose "name" is a module of the package.

  Raises:
    UserError: an unknown name or keyword, or a value out of a keyword's range.
  """
  kind = _kind(package)
  make = factory(package, config["name"])
  keywords = {key: value for key, value in config.items() if key != "name"}
  accepted = defaults(make)
  for key in keywords:
    if key not in accepted:
      raise UserError(
        f"{kind} {config['name']} has no keyword {key!r} (--config.{kind}.{key})"
        f"{options.nearest(key, accepted) or '; it has no keywords'}"
      )
  try:
    options.check(options.describe(make), keywords)
  except ValueError as error:
    raise UserError(f"--config.{kind}.{error} ({config['name']})") from None
  return keywords


def _kind(package: ModuleType) -> str:
  """The config key of the package: "method" for ssljax.methods."""
  return package.__name__.rsplit(".", 1)[-1].rstrip("s")

"""Things that are found by the name of their file, each with a function `make`."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ssljax.errors import UserError
from ssljax.options import check


def names(package: ModuleType) -> list[str]:
  """Every module of a package, except its `HELPERS`."""
  modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
  return sorted(modules.difference(getattr(package, "HELPERS", ())))


def factory(package: ModuleType, name: str) -> Callable:
  """`make` of a module; its keywords are those with a default.

  Raises:
    UserError: there is none of that name.
  """
  what = package.__name__.rsplit(".", 1)[-1].rstrip("s")
  if name not in names(package):
    raise UserError(
      f"no {what} {name!r} (--config.{what}.name); there are "
      f"{', '.join(names(package))}"
    )
  return importlib.import_module(f"{package.__name__}.{name}").make


def defaults(make: Callable) -> dict[str, Any]:
  """Keywords with their defaults."""
  return {
    key: parameter.default
    for key, parameter in inspect.signature(make).parameters.items()
    if parameter.default is not inspect.Parameter.empty
  }


def checked(package: ModuleType, config: Mapping[str, Any]) -> dict[str, Any]:
  """The keywords of `config`, which names a module of the package.

  Raises:
    UserError: an unknown name or keyword, or a value that a keyword may not have.
  """
  what = package.__name__.rsplit(".", 1)[-1].rstrip("s")
  make = factory(package, config["name"])
  keywords = {key: value for key, value in config.items() if key != "name"}
  known = defaults(make)
  for key in keywords:
    if key not in known:
      raise UserError(
        f"{what} {config['name']} has no keyword {key!r}; it has "
        f"{', '.join(known) or 'none'} (--config.{what}.{key})"
      )
  try:
    check(make, keywords)
  except ValueError as error:
    raise UserError(f"--config.{what}.{error} ({config['name']})") from None
  return keywords

"""One file a method, found by its module's name."""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from ssljax.errors import UserError
from ssljax.keywords import check
from ssljax.method import Method


def names() -> list[str]:
  """Every method there is."""
  return sorted(module.name for module in pkgutil.iter_modules(__path__))


def defaults(name: str) -> dict[str, Any]:
  """Keywords of the method's `make` with their defaults."""
  return {
    key: parameter.default
    for key, parameter in inspect.signature(_factory(name)).parameters.items()
  }


def make(config: Mapping[str, Any]) -> Method:
  """The method that `config["name"]` names; the other items are its keywords.

  Raises:
    UserError: an unknown method or keyword, or a value that a keyword may not have.
  """
  keywords = {key: value for key, value in config.items() if key != "name"}
  known = defaults(config["name"])
  for key in keywords:
    if key not in known:
      raise UserError(
        f"method {config['name']} has no keyword {key!r}; it has "
        f"{', '.join(known) or 'none'} (--config.method.{key})"
      )
  factory = _factory(config["name"])
  try:
    check(factory, keywords)
  except ValueError as error:
    raise UserError(f"--config.method.{error}") from None
  return factory(**keywords)


def _factory(name: str):
  if name not in names():
    raise UserError(
      f"no method {name!r} (--config.method.name); there are {', '.join(names())}"
    )
  return importlib.import_module(f"{__name__}.{name}").make

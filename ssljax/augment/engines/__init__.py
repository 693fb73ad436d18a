"""The engines of `python -m ssljax.augment`; each is a module or package here."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from ssljax import options
from ssljax.augment.engine import Engine
from ssljax.errors import UserError


def names() -> list[str]:
  """Returns the names of all engines."""
  return sorted(module.name for module in pkgutil.iter_modules(__path__))


def describe(name: str) -> dict[str, options.Option]:
  """Returns an engine's keywords with their types, ranges, defaults and meanings."""
  return options.describe(_factory(name), required=True)


def make(
  name: str, keywords: Mapping[str, Any], shared: Mapping[str, Any] | None = None
) -> Engine:
  """Creates an engine by its name.

  Args:
    keywords: the config keys that aren't in augment/settings.py.
    shared: values from the pipeline (`seed`, `views`, `data`). An engine gets only
      the values for which its `make` has a parameter.

  Raises:
    UserError: the engine or a keyword is unknown, a required keyword is missing, a
      value is out of its keyword's range, or the engine rejects it.
  """
  factory = _factory(name)
  described = options.describe(factory, required=True)
  for key in keywords:
    if key not in described:
      raise UserError(
        f"unknown config key --config.{key} of engine {name}"
        f"{options.nearest(key, described)}"
      )
  arguments = {k: v for k, v in (shared or {}).items() if k in described}
  arguments |= keywords
  for key, option in described.items():
    if option.default is options.REQUIRED and key not in arguments:
      raise UserError(f"engine {name} needs --config.{key}")
  try:
    options.check(described, keywords)
  except ValueError as error:
    raise UserError(f"--config.{error}") from None
  return factory(**arguments)


def _factory(name: str) -> Callable[..., Engine]:
  if name not in names():
    raise UserError(
      f"no engine {name!r} (--config.engine){options.nearest(name, names())}"
    )
  module = importlib.import_module(f"{__name__}.{name}")
  if not hasattr(module, "make"):  # a package
    module = importlib.import_module(f"{__name__}.{name}.engine")
  return module.make

"""The methods. Each is one file, and has the name of its module."""

import sys
from collections.abc import Mapping
from typing import Any

from ssljax import lookup, options
from ssljax.errors import UserError
from ssljax.method import Method

_PACKAGE = sys.modules[__name__]


def names() -> list[str]:
  """The names of all methods in this package."""
  return lookup.names(_PACKAGE)


def describe(name: str) -> dict[str, options.Option]:
  """The keywords of `make` with their types, ranges and defaults."""
  return options.describe(lookup.module(_PACKAGE, name).make)


def defaults(name: str) -> dict[str, Any]:
  """The keywords of `make` with their defaults.

  Args:
    name: a method of this package, or the dotted name of a module elsewhere.
  """
  return {key: option.default for key, option in describe(name).items()}


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
  """`config` with the defaults of the keywords that it leaves out."""
  return {**defaults(config["name"]), **config}


def make(config: Mapping[str, Any]) -> Method:
  """Builds the method `config["name"]`; the other items are its keywords.

  >>> make({"name": "fixmatch", "threshold": 0.9}).needs.views
  ('weak', 'strong')

  Raises:
    UserError: an unknown method or keyword, or a value out of a keyword's range.
  """
  method = lookup.bind(_PACKAGE, config)()
  if not isinstance(method, Method):
    raise UserError(
      f"--config.method.name={config['name']}: its make returned "
      f"{type(method).__name__}; return a ssljax.method.Method"
    )
  return method

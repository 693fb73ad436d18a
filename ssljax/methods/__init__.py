"""The methods, one per file, found by the name of their module."""

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
  return options.describe(lookup.factory(_PACKAGE, name))


def defaults(name: str) -> dict[str, Any]:
  """Keywords of the method's `make` with their defaults.

  Args:
    name: of a method here, or the dotted name of a module elsewhere.
  """
  return lookup.defaults(lookup.factory(_PACKAGE, name))


def make(config: Mapping[str, Any]) -> Method:
  """Builds the method `config["name"]`; the other items are its keywords.

  >>> make({"name": "fixmatch", "threshold": 0.9}).needs.views
  ('weak', 'strong')

  Raises:
    UserError: an unknown method or keyword, or a value out of a keyword's range.
  """
  keywords = lookup.checked(_PACKAGE, config)
  method = lookup.factory(_PACKAGE, config["name"])(**keywords)
  if not isinstance(method, Method):
    raise UserError(
      f"--config.method.name={config['name']}: its make returned "
      f"{type(method).__name__}; return a ssljax.method.Method"
    )
  return method

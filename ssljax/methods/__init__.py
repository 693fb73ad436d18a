"""One file a method, found by its module's name."""

import sys
from collections.abc import Mapping
from typing import Any

from ssljax import lookup
from ssljax.method import Method

_PACKAGE = sys.modules[__name__]


def names() -> list[str]:
  """Every method there is."""
  return lookup.names(_PACKAGE)


def defaults(name: str) -> dict[str, Any]:
  """Keywords of the method's `make` with their defaults."""
  return lookup.defaults(lookup.factory(_PACKAGE, name))


def make(config: Mapping[str, Any]) -> Method:
  """The method that `config["name"]` names; the other items are its keywords.

  Raises:
    UserError: an unknown method or keyword, or a value that a keyword may not have.
  """
  keywords = lookup.checked(_PACKAGE, config)
  return lookup.factory(_PACKAGE, config["name"])(**keywords)

"""Wrappers for classes of unlike size: each takes a method and returns a method.

One file a wrapper, found by its module's name; `make(method, **keywords)`. It is for
whatever method: it hears what the model says (`ops.listening`) and needs no more of it.
"""

import sys
from collections.abc import Mapping
from typing import Any

from ssljax import modules
from ssljax.method import Method

_PACKAGE = sys.modules[__name__]


def names() -> list[str]:
  """Every wrapper there is."""
  return modules.names(_PACKAGE)


def defaults(name: str) -> dict[str, Any]:
  """Keywords of the wrapper's `make` with their defaults; {} without a name."""
  return modules.defaults(modules.factory(_PACKAGE, name)) if name else {}


def wrap(method: Method, config: Mapping[str, Any]) -> Method:
  """The method in the wrapper that `config["name"]` names, or itself without a name.

  Raises:
    UserError: as `methods.make`; a method that the wrapper has no use for.
  """
  if not config["name"]:
    return method
  keywords = modules.checked(_PACKAGE, config)
  return modules.factory(_PACKAGE, config["name"])(method, **keywords)

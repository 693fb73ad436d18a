"""Wrappers for classes of unlike size: each takes a method and returns a method.

One file a wrapper, found by its module's name; `make(method, **keywords)`. It hears
what the model says (`recording_forward`) and needs no more of the method than that it
votes on a weak view, in a pass without gradient, and learns from a strong one.

CReST (Wei et al. 2021, arXiv 2102.09559) is none of them: it trains several
generations, each from new weights on a labelled set that the last one has grown. That
is a loop around runs and no step function.
"""

import sys
from collections.abc import Mapping
from typing import Any

from ssljax import lookup
from ssljax.errors import UserError
from ssljax.method import Method

_PACKAGE = sys.modules[__name__]
HELPERS = ("recording_forward",)  # modules here that are not wrappers


def names() -> list[str]:
  """Every wrapper there is."""
  return lookup.names(_PACKAGE)


def defaults(name: str) -> dict[str, Any]:
  """Keywords of the wrapper's `make` with their defaults; {} without a name."""
  return lookup.defaults(lookup.factory(_PACKAGE, name)) if name else {}


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
  """The keywords that `config` leaves out with their defaults."""
  return {**defaults(config["name"]), **config}


def of_even_classes(name: str) -> str:
  """What a wrapper does where all classes have equally many labelled texts.

  Its module's `EVEN`; "" of one that does not go by their numbers.
  """
  return getattr(sys.modules[lookup.factory(_PACKAGE, name).__module__], "EVEN", "")


def wrap(method: Method, config: Mapping[str, Any], name: str = "the method") -> Method:
  """The method in the wrapper that `config["name"]` names, or itself without a name.

  A wrapper's `make` raises a ValueError that says what else it does not take.

  Args:
    name: of the method, for an error.

  Raises:
    UserError: as `methods.make`; a method that the wrapper has no use for.
  """
  if not config["name"]:
    return method
  keywords = lookup.checked(_PACKAGE, config)
  make, needs = lookup.factory(_PACKAGE, config["name"]), method.needs
  if not {"weak", "strong"} <= {*needs.views}:
    raise UserError(
      f"--config.wrapper.name={config['name']} takes a method that votes on a weak "
      f"view and learns from a strong one, such as fixmatch; {name} reads "
      f"{', '.join(needs.views) or 'no unlabelled view'}"
    )
  try:
    return make(method, **keywords)
  except ValueError as error:
    raise UserError(
      f"--config.wrapper.name={config['name']} over {name}: {config['name']} {error}; "
      "take another wrapper, or another method (fixmatch goes with all)"
    ) from None

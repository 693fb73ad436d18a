"""Wrappers for class imbalance: each takes a method and returns a method.

One per file, found by the name of its module; `make(method, **keywords)`. A wrapper
sees and changes the model's outputs through `recording_forward`. All it needs to know
about the method is that it computes targets from a weak view, in a pass without
gradient, and learns from a strong view.

CReST (Wei et al. 2021, arXiv 2102.09559) isn't here: it trains several generations,
each from new weights on a labelled set that the previous one has extended. That is a
loop around runs, not a train step.
"""

import sys
from collections.abc import Mapping
from typing import Any

from ssljax import lookup, options
from ssljax.errors import UserError
from ssljax.method import Method

_PACKAGE = sys.modules[__name__]
HELPERS = ("recording_forward", "requirements")  # modules here that aren't wrappers


def names() -> list[str]:
  """The names of all wrappers in this package."""
  return lookup.names(_PACKAGE)


def describe(name: str) -> dict[str, options.Option]:
  """The keywords of `make` with their types, ranges and defaults."""
  return options.describe(lookup.factory(_PACKAGE, name))


def defaults(name: str) -> dict[str, Any]:
  """Keywords of the wrapper's `make` with their defaults; {} if `name` is empty."""
  return lookup.defaults(lookup.factory(_PACKAGE, name)) if name else {}


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
  """`config` with the defaults of the keywords that it leaves out."""
  return {**defaults(config["name"]), **config}


def of_even_classes(name: str) -> str:
  """What the wrapper does if all classes have the same number of labelled texts.

  This is `EVEN` of its module; "" if the wrapper doesn't use these numbers.
  """
  return getattr(lookup.module(_PACKAGE, name), "EVEN", "")


def wrap(method: Method, config: Mapping[str, Any], name: str = "the method") -> Method:
  """Wraps the method in `config["name"]`; returns it unchanged if that is empty.

  A wrapper's `make` raises a ValueError for methods that it does not support.

  Args:
    name: of the method, for error messages.

  Raises:
    UserError: as `methods.make`, or the wrapper does not support the method.
  """
  if not config["name"]:
    return method
  keywords = lookup.checked(_PACKAGE, config)
  make, needs = lookup.factory(_PACKAGE, config["name"]), method.needs
  if not {"weak", "strong"} <= {*needs.views}:
    raise UserError(
      f"--config.wrapper.name={config['name']} needs a method that computes targets "
      f"from a weak view and learns from a strong one, such as fixmatch; {name} reads "
      f"{', '.join(needs.views) or 'no unlabelled view'}"
    )
  try:
    return make(method, **keywords)
  except ValueError as error:
    raise UserError(
      f"--config.wrapper.name={config['name']} can't wrap {name}: {error}; choose "
      "another wrapper, or another method (fixmatch works with all)"
    ) from None

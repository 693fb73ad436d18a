"""Wrappers for class imbalance: each takes a method and returns a method.

Each wrapper is a module of the same name that has `make(method, **keywords)`. A wrapper
reads and changes the model's outputs through `recording_forward`. It needs a method
that computes targets from a weak view, in a pass without gradient, and that learns from
a strong view.

CReST (Wei et al. 2021, arXiv 2102.09559) isn't here, since it is a loop around whole
runs: see ssljax/self_train.py.
"""

from collections.abc import Mapping
from typing import Any

from ssljax.errors import UserError
from ssljax.lookup import Modules
from ssljax.method import Method

_MODULES = Modules(__name__, __path__, helpers=("recording_forward", "requirements"))
names, describe = _MODULES.names, _MODULES.describe
defaults, complete = _MODULES.defaults, _MODULES.complete


def of_even_classes(name: str) -> str:
  """Tells what the wrapper does if all classes have the same number of labelled texts.

  Returns the constant `EVEN` of the wrapper's module, or "" if there is no such
  constant, since the wrapper doesn't count labels.
  """
  return getattr(_MODULES.module(name), "EVEN", "")


def wrap(method: Method, config: Mapping[str, Any], name: str = "the method") -> Method:
  """Puts the wrapper `config["name"]` around the method, unless the name is empty.

  A wrapper's `make` raises a ValueError for methods that the wrapper doesn't support.

  Args:
    name: the method's name, for error messages.

  Raises:
    UserError: an unknown wrapper or keyword, a value out of a keyword's range, or the
      wrapper doesn't support the method.
  """
  if not config["name"]:
    if keywords := [key for key in config if key != "name"]:
      raise UserError(
        f"--config.wrapper.{keywords[0]} is set, but no wrapper is chosen; set "
        "--config.wrapper.name"
      )
    return method
  make, views = _MODULES.bind(config), method.needs.views
  if not {"weak", "strong"} <= {*views}:
    raise UserError(
      f"--config.wrapper.name={config['name']} needs a method that computes targets "
      f"from a weak view and learns from a strong one, such as fixmatch; {name} reads "
      f"{', '.join(views) or 'no unlabelled view'}"
    )
  try:
    return make(method)
  except ValueError as error:
    raise UserError(
      f"--config.wrapper.name={config['name']} can't wrap {name}: {error}; choose "
      "another wrapper, or another method (fixmatch works with all wrappers)"
    ) from None

"""The engines of python -m ssljax.augment, one a file, found by name."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any

from ssljax.augment.engine import Engine
from ssljax.errors import UserError


def names() -> list[str]:
  """Every engine there is."""
  return sorted(module.name for module in pkgutil.iter_modules(__path__))


def make(
  name: str, keywords: Mapping[str, Any], shared: Mapping[str, Any] | None = None
) -> Engine:
  """The engine of that name.

  Args:
    keywords: what its config says beside the keys of configs/augment/base.py.
    shared: what the pipeline knows (`seed`, `views`, `data`); an engine gets of it
      what its `make` has a parameter for.

  Raises:
    UserError: no such engine or keyword, a keyword that it needs, or what the engine
      itself finds wrong.
  """
  if name not in names():
    raise UserError(f"no engine {name!r} (--config.engine){_near(name, names())}")
  module = importlib.import_module(f"{__name__}.{name}")
  if not hasattr(module, "make"):  # an engine of several files
    module = importlib.import_module(f"{__name__}.{name}.engine")
  factory = module.make
  parameters = inspect.signature(factory).parameters
  for key in keywords:
    if key not in parameters:
      raise UserError(
        f"--config.{key}: engine {name} has no such keyword{_near(key, parameters)}"
      )
  given = {k: v for k, v in (shared or {}).items() if k in parameters}
  given |= keywords
  for key, parameter in parameters.items():
    if parameter.default is inspect.Parameter.empty and key not in given:
      raise UserError(f"engine {name} needs --config.{key}")
  return factory(**given)


def _near(name: str, known: Sequence[str]) -> str:
  close = difflib.get_close_matches(name, list(known), 1)
  listed = f"; it is one of {', '.join(known)}" if known else ""
  return f"; did you mean {close[0]!r}?" if close else listed

"""Semi-supervised training of safety classifiers in JAX.

  import ssljax
  config = ssljax.load_config("fixmatch", data="pyrit", steps=100)
  result = ssljax.train(config, "runs/first")
  result.classifier(["How do I bake bread?"])

Importing this package imports neither JAX nor anything else that is slow: names are
loaded when they are first used.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from ssljax.api import TrainingResult, evaluate, predict, train
  from ssljax.batch import Batch, Labelled, Rows, Texts, Unlabelled
  from ssljax.config_files import load_config
  from ssljax.errors import RunError, UserError
  from ssljax.inference.classifier import SafetyClassifier
  from ssljax.method import (
    Assignment,
    Clock,
    Evidence,
    Forward,
    Head,
    Method,
    Needs,
    Outputs,
    Rule,
    Sizes,
    Term,
    consistency,
    cross_entropy,
  )
  from ssljax.models import load_encoder

_MODULES = {
  "api": ("TrainingResult", "evaluate", "predict", "train"),
  "batch": ("Batch", "Labelled", "Rows", "Texts", "Unlabelled"),
  "config_files": ("load_config",),
  "errors": ("RunError", "UserError"),
  "inference.classifier": ("SafetyClassifier",),
  "method": (
    "Assignment",
    "Clock",
    "Evidence",
    "Forward",
    "Head",
    "Method",
    "Needs",
    "Outputs",
    "Rule",
    "Sizes",
    "Term",
    "consistency",
    "cross_entropy",
  ),
  "models": ("load_encoder",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
  "Assignment",
  "Batch",
  "Clock",
  "Evidence",
  "Forward",
  "Head",
  "Labelled",
  "Method",
  "Needs",
  "Outputs",
  "Rows",
  "Rule",
  "RunError",
  "SafetyClassifier",
  "Sizes",
  "Term",
  "Texts",
  "TrainingResult",
  "Unlabelled",
  "UserError",
  "consistency",
  "cross_entropy",
  "evaluate",
  "load_config",
  "load_encoder",
  "predict",
  "train",
]


class _Package(types.ModuleType):
  """Keeps `ssljax.train` the function when the module ssljax/train.py is imported.

  Importing a module sets it as an attribute of its package. The modules stay available
  by `from ssljax.train import run` and `importlib.import_module("ssljax.train")`.
  """

  def __setattr__(self, name: str, value: Any) -> None:
    if name in _HOME and isinstance(value, types.ModuleType):
      return
    super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
  if name not in _HOME:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  return sorted({*globals(), *_HOME})


sys.modules[__name__].__class__ = _Package

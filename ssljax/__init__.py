"""Semi-supervised training of safety classifiers in JAX.

  import ssljax
  config = ssljax.load_config("fixmatch", data="pyrit:response", steps=100)
  result = ssljax.train(config, "runs/first")
  result.classifier(["How do I bake bread?"])

Importing this package imports neither JAX nor other slow packages: each name is loaded
when it is first used.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names as below, for type checkers
  from ssljax.api import TrainingResult as TrainingResult
  from ssljax.api import load_config as load_config
  from ssljax.api import self_train as self_train
  from ssljax.api import train as train
  from ssljax.batch import Batch as Batch
  from ssljax.batch import Labelled as Labelled
  from ssljax.batch import Rows as Rows
  from ssljax.batch import Texts as Texts
  from ssljax.batch import Unlabelled as Unlabelled
  from ssljax.errors import RunError as RunError
  from ssljax.errors import UserError as UserError
  from ssljax.evaluate import evaluate as evaluate
  from ssljax.inference.classifier import SafetyClassifier as SafetyClassifier
  from ssljax.method import Assignment as Assignment
  from ssljax.method import Clock as Clock
  from ssljax.method import Evidence as Evidence
  from ssljax.method import Forward as Forward
  from ssljax.method import Head as Head
  from ssljax.method import Method as Method
  from ssljax.method import Needs as Needs
  from ssljax.method import Outputs as Outputs
  from ssljax.method import Rule as Rule
  from ssljax.method import Sizes as Sizes
  from ssljax.method import Term as Term
  from ssljax.method import assign_then_learn as assign_then_learn
  from ssljax.method import consistency as consistency
  from ssljax.method import cross_entropy as cross_entropy
  from ssljax.models import load_encoder as load_encoder
  from ssljax.predict import predict as predict

_MODULES = {
  "api": "TrainingResult load_config self_train train",
  "batch": "Batch Labelled Rows Texts Unlabelled",
  "errors": "RunError UserError",
  "evaluate": "evaluate",
  "inference.classifier": "SafetyClassifier",
  "method": "Assignment Clock Evidence Forward Head Method Needs Outputs Rule Sizes "
  "Term assign_then_learn consistency cross_entropy",
  "models": "load_encoder",
  "predict": "predict",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted(_HOME)


class _Package(types.ModuleType):
  """Ensures that `ssljax.train` is the function, even if ssljax/train.py is imported.

  Importing a module normally sets it as an attribute of its package. The modules remain
  available through `from ssljax.train import run` and
  `importlib.import_module("ssljax.train")`.
  """

  def __setattr__(self, name: str, value: Any) -> None:
    if name not in _HOME or not isinstance(value, types.ModuleType):
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

"""Semi-supervised training of safety classifiers in JAX."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from ssljax.inference.classifier import SafetyClassifier

__all__ = ["SafetyClassifier"]


def __getattr__(name: str):
  if name == "SafetyClassifier":  # only then is JAX imported
    from ssljax.inference.classifier import SafetyClassifier

    return SafetyClassifier
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

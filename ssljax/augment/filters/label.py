"""Checks that a trained model predicts the same class for a view as for its text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssljax.augment.engine import Candidate, Source
from ssljax.inference.classifier import SafetyClassifier


class SameLabel:
  """Maps n pairs of a source and its view to bool [n]: True if the classes agree."""

  def __init__(self, workdir: str | Path):
    """Loads the best checkpoint of a run; raises as `SafetyClassifier.load` does."""
    self._classifier = SafetyClassifier.load(workdir)

  def __call__(self, pairs: Sequence[tuple[Source, Candidate]]) -> np.ndarray:
    sources = [(source.text, source.response) for source, _ in pairs]
    views = [(view.text, view.response) for _, view in pairs]
    unique = list(dict.fromkeys(sources + views))
    labels = self._classifier.logits(unique).logits.argmax(axis=1)
    label_of = dict(zip(unique, labels, strict=True))
    return np.array(
      [label_of[a] == label_of[b] for a, b in zip(sources, views, strict=True)]
    )

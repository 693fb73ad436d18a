"""Checks that a trained model predicts the same class for a view as for its text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssljax.augment.engine import Candidate, Source
from ssljax.data.batches import tokenize
from ssljax.inference import score
from ssljax.inference.load import load_trained


class SameLabel:
  """Maps n pairs of a source and its view to bool [n]: True if the classes agree."""

  def __init__(self, workdir: str | Path):
    """Loads the best checkpoint of a run.

    Raises:
      UserError: the folder holds no run, or the run has no checkpoint yet.
    """
    trained = load_trained(workdir)
    self._tokenizer = tokenize.load_tokenizer(trained.encoder)
    self._max_length = trained.config["max_length"]
    longest = trained.config["resolved"]["row_lengths"][-1]
    self._score = score.make_scorer(
      trained.eval_step, trained.params, score.choose_row_lengths(longest)
    )

  def __call__(self, pairs: Sequence[tuple[Source, Candidate]]) -> np.ndarray:
    sources = [(source.text, source.response) for source, _ in pairs]
    views = [(view.text, view.response) for _, view in pairs]
    unique = list(dict.fromkeys(sources + views))
    prompts, responses = zip(*unique, strict=True)
    tokens = tokenize.encode(self._tokenizer, prompts, responses, self._max_length)
    classes = dict(zip(unique, self._score(tokens).argmax(axis=1), strict=True))
    return np.array(
      [classes[a] == classes[b] for a, b in zip(sources, views, strict=True)]
    )

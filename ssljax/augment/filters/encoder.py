"""Loads the filters that run an encoder: similarity and the label check."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ssljax.augment.engine import Candidate, Source
from ssljax.augment.settings import Settings
from ssljax.errors import UserError

Pairs = Sequence[tuple[Source, Candidate]]


class EncoderFilters(NamedTuple):
  """Each maps n pairs of a source and its view to bool [n]: True keeps the view."""

  similar: Callable[[Pairs], np.ndarray] | None = None
  same_label: Callable[[Pairs], np.ndarray] | None = None


def load_filters(settings: Settings) -> EncoderFilters:
  """Loads the filters that `settings` turn on; JAX is imported only for them.

  Raises:
    UserError: `label_check` isn't a run with a checkpoint.
  """
  similar = same_label = None
  if settings.least_similarity > 0:
    from ssljax.augment.filters.similarity import Similarity

    similar = Similarity(settings.similarity_encoder, settings.least_similarity)
  if settings.label_check:
    from ssljax.augment.filters.label import SameLabel

    try:
      same_label = SameLabel(settings.label_check)
    except UserError as error:
      raise UserError(f"--config.label_check: {error}") from None
  return EncoderFilters(similar, same_label)

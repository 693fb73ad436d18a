"""Loads the filters that run an encoder: similarity and the label check."""

from collections.abc import Callable, Sequence

import numpy as np

from ssljax.augment.engine import Candidate, Source
from ssljax.augment.settings import Settings
from ssljax.errors import UserError

# Maps n pairs of a source and its view to bool [n]: True keeps the view.
EncoderFilter = Callable[[Sequence[tuple[Source, Candidate]]], np.ndarray]


def load_filters(settings: Settings) -> dict[str, EncoderFilter]:
  """Loads the filters that `settings` turn on; imports JAX only if there are any.

  Returns:
    A dict of filters; its keys are the reasons for which they drop views.

  Raises:
    UserError: `label_check` isn't a run with a checkpoint.
  """
  filters: dict[str, EncoderFilter] = {}
  if settings.least_similarity > 0:
    from ssljax.augment.filters.similarity import Similarity

    filters["not similar"] = Similarity(
      settings.similarity_encoder, settings.least_similarity
    )
  if settings.label_check:
    from ssljax.augment.filters.label import SameLabel

    try:
      filters["label flips"] = SameLabel(settings.label_check)
    except UserError as error:
      raise UserError(f"--config.label_check: {error}") from None
  return filters

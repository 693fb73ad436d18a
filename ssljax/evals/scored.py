"""Labelled texts with the logits of a classifier."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssljax.data.records.records import Records
from ssljax.evals import slices


class ScoredTexts(NamedTuple):
  logits: np.ndarray  # f32 [n, C]
  label: np.ndarray  # i64 [n]
  columns: Mapping[str, Sequence[Any]] = {}  # columns to slice by
  truncated: int = 0  # number of texts that were cut to the maximum length

  @classmethod
  def from_records(cls, rows: Records, logits, truncated, columns=()) -> "ScoredTexts":
    """Combines n labelled rows with their logits.

    Args:
      logits: f32 [n, C].
      truncated: bool [n], whether each text was cut.
      columns: columns to slice by, in addition to the columns of the records.
    """
    columns = slices.slice_columns(rows, dict(columns))
    return cls(logits, rows.label, columns, int(truncated.sum()))

  def joined(self, other: "ScoredTexts") -> "ScoredTexts":
    """Both texts, without columns."""
    logits = np.concatenate([self.logits, other.logits])
    label = np.concatenate([self.label, other.label])
    return ScoredTexts(logits, label, {}, self.truncated + other.truncated)

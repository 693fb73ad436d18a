"""Computes error rates of slices of a test set, to show where a classifier fails.

A slice may contain only one class: a category of harm, for example, has only harmful
texts. Its metrics are therefore the rates of errors, of missed harm and of false
alarms. Their Wilson intervals are valid even for small counts and for rates near 0.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ssljax.data.records.records import Records
from ssljax.evals.wilson import proportion

LENGTHS = (0, 8, 32, 128, 512)  # lower bounds of the length classes, in words
MIN_TEXTS = 10  # smaller slices are not reported
MAX_VALUES = 50  # columns with more distinct values are skipped
MISSING = "(none)"


def slice_metrics(
  columns: Mapping[str, Sequence[Any]],
  wrong: np.ndarray,
  harmful: np.ndarray | None,
) -> list[dict[str, Any]]:
  """Error rates of all slices, the worst slice first.

  Slices are sorted by the lower end of the interval of their error rate, so that a
  slice of few texts doesn't come first by chance.

  Args:
    columns: column name -> a value for each text. If a string contains `;`, it is
      split into several values. Columns with a `skip_reason` are skipped.
    wrong: bool [n], whether each text was misclassified.
    harmful: bool [n]; None with more than two classes.

  Returns:
    For each slice: `column`, `value`, `count` and `harmful`; the rates `error_rate`,
    `miss_rate` and `false_alarm_rate`; and `<rate>_interval` for each rate. A rate is
    None if its denominator is 0.
  """
  nothing = np.zeros_like(wrong)
  denominators = {
    "error_rate": ~nothing,
    "miss_rate": nothing if harmful is None else harmful,
    "false_alarm_rate": nothing if harmful is None else ~harmful,
  }
  slices = []
  for column, values in columns.items():
    if skip_reason(values):
      continue
    for value, rows in _rows_by_value(values).items():
      if len(rows) < MIN_TEXTS:
        continue
      metrics = {"column": column, "value": value, "count": len(rows)}
      metrics["harmful"] = None if harmful is None else int(harmful[rows].sum())
      for name, among in denominators.items():
        count = (wrong & among)[rows].sum()
        metrics[name], metrics[f"{name}_interval"] = proportion(
          count, among[rows].sum()
        )
      slices.append(metrics)
  return sorted(slices, key=lambda metrics: -metrics["error_rate_interval"][0])


def skip_reason(values: Sequence[Any]) -> str:
  """Why a column cannot be sliced, or an empty string."""
  rows_by_value = _rows_by_value(values)
  if len(rows_by_value) < 2:
    return f"has only one value ({', '.join(rows_by_value)})"
  if len(rows_by_value) > MAX_VALUES:
    return f"has {len(rows_by_value)} values, more than {MAX_VALUES}"
  if all(len(rows) < MIN_TEXTS for rows in rows_by_value.values()):
    return f"has no value with at least {MIN_TEXTS} texts"
  return ""


def _rows_by_value(values: Sequence[Any]) -> dict[str, list[int]]:
  rows: dict[str, list[int]] = {}
  for i, value in enumerate(values):
    names = [name.strip() for name in ("" if value is None else str(value)).split(";")]
    for name in dict.fromkeys(filter(None, names)) or [MISSING]:
      rows.setdefault(name, []).append(i)
  return rows


def slice_columns(rows: Records, extra: Mapping[str, Sequence[Any]]) -> dict[str, list]:
  """The columns to slice by: `category`, `source` and `words`, then `extra`.

  `words` is the length class of each text, including its response.
  """
  words = [
    len(text.split()) + len((response or "").split())
    for text, response in zip(rows.column("text"), rows.column("response"), strict=True)
  ]
  classes = [f"{low} to {high - 1}" for low, high in itertools.pairwise(LENGTHS)]
  classes.append(f"{LENGTHS[-1]} or more")
  columns = {name: rows.column(name) for name in ("category", "source")}
  index = np.searchsorted(LENGTHS, words, side="right") - 1
  return {**columns, "words": [classes[k] for k in index], **extra}

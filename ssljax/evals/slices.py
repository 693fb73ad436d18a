"""Computes error rates of slices of a test set, to show where a classifier fails.

A slice may contain one class only (a category of harm, harmless look-alikes), so it
gets the rates that every slice has: errors, missed harm and false alarms. Wilson's
intervals hold for small counts and rates near 0.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ssljax.data.records.records import Records
from ssljax.evals.wilson import proportion

LENGTHS = (0, 8, 32, 128, 512)  # lower bounds of the length classes, in words
MIN_TEXTS = 10  # smaller slices are not reported
MAX_VALUES = 50  # of one column
MISSING = "(none)"


def slice_metrics(
  columns: Mapping[str, Sequence[Any]],
  wrong: np.ndarray,
  harmful: np.ndarray | None,
) -> list[dict[str, Any]]:
  """Error rates of all slices, the worst slice first.

  Slices are ordered by the lower end of the interval of the error rate, so that a
  handful of texts never comes first by chance.

  Args:
    columns: by name, a value for each text; a string that contains `;` holds several
      values. Columns with a `skip_reason` are skipped.
    wrong: bool [n], which texts were misclassified.
    harmful: bool [n]; None with more than two classes.

  Returns:
    `column`, `value`, `count`, `harmful` and, each with its `_interval`, `error_rate`,
    `miss_rate` and `false_alarm_rate`; None if the denominator is 0.
  """
  slices = []
  for name, values in columns.items():
    if skip_reason(values):
      continue
    for value, rows in _rows_by_value(values).items():
      if len(rows) >= MIN_TEXTS:
        rates = _rates(wrong[rows], None if harmful is None else harmful[rows])
        slices.append({"column": name, "value": value, **rates})
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
    for name in _split(value):
      rows.setdefault(name, []).append(i)
  return rows


def _split(value: Any) -> list[str]:
  names = [name.strip() for name in ("" if value is None else str(value)).split(";")]
  return list(dict.fromkeys(filter(None, names))) or [MISSING]


def slice_columns(rows: Records, extra: Mapping[str, Sequence[Any]]) -> dict[str, list]:
  """The columns to slice by: those of every record, then `extra`."""
  texts, responses = rows.column("text"), rows.column("response")
  columns = {name: rows.column(name) for name in ("category", "source")}
  return {**columns, "words": length_classes(texts, responses), **extra}


def length_classes(texts: Sequence[str], responses: Sequence[str | None]) -> list[str]:
  """The length class of each text, with its response, in words."""
  words = [
    len(text.split()) + len((response or "").split())
    for text, response in zip(texts, responses, strict=True)
  ]
  names = [
    *(f"{low} to {high - 1}" for low, high in itertools.pairwise(LENGTHS)),
    f"{LENGTHS[-1]} or more",
  ]
  return [names[k] for k in np.searchsorted(LENGTHS, words, side="right") - 1]


def _rates(wrong: np.ndarray, harmful: np.ndarray | None) -> dict[str, Any]:
  everything, nothing = np.ones_like(wrong), np.zeros_like(wrong)
  rates: dict[str, Any] = {
    "count": len(wrong),
    "harmful": None if harmful is None else int(harmful.sum()),
  }
  for name, among in (
    ("error_rate", everything),
    ("miss_rate", nothing if harmful is None else harmful),
    ("false_alarm_rate", nothing if harmful is None else ~harmful),
  ):
    value, interval = proportion((wrong & among).sum(), among.sum())
    rates |= {name: value, f"{name}_interval": interval}
  return rates

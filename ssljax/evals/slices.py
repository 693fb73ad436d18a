"""Where a classifier fails: the same few numbers for parts of a test set.

A part may have one class only (a category of harm, benign look-alikes), so what is
reported are shares that every part has: errors, harm that is missed, false alarms.
Their intervals are Wilson's, which hold for small counts and shares near 0.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ssljax.data.records.records import Records
from ssljax.evals.wilson import share

LENGTHS = (0, 8, 32, 128, 512)  # words from which on a text is of the next length
FEWEST = 10  # texts; of fewer there is nothing to say
MOST = 50  # values of one column
MISSING = "(none)"


def slices(
  columns: Mapping[str, Sequence[Any]],
  wrong: np.ndarray,
  harmful: np.ndarray | None,
) -> list[dict[str, Any]]:
  """The parts of a test set, the worst first.

  The worst is the one whose error rate is the highest even at the low end of its
  interval, so that a handful of texts never comes first by chance.

  Args:
    columns: by name, a value for each text; a string with `;` in it is several values.
      A column that `unfit` speaks of has no parts.
    wrong: bool [n], what was classified wrongly.
    harmful: bool [n]; None with more than two classes.

  Returns:
    `column`, `value`, `count`, `harmful` and, each with its `_interval`, `error_rate`,
    `miss_rate` and `false_alarm_rate`, None where there is nothing to miss or to flag.
  """
  found = []
  for name, values in columns.items():
    if unfit(values):
      continue
    for value, rows in _parts(values).items():
      if len(rows) >= FEWEST:
        rates = _rates(wrong[rows], None if harmful is None else harmful[rows])
        found.append({"column": name, "value": value, **rates})
  return sorted(found, key=lambda part: -part["error_rate_interval"][0])


def unfit(values: Sequence[Any]) -> str:
  """Why a column has no parts, or an empty string."""
  parts = _parts(values)
  if len(parts) < 2:
    return f"has one value only ({', '.join(parts)})"
  if len(parts) > MOST:
    return f"has {len(parts)} values; up to {MOST} are told apart"
  if all(len(rows) < FEWEST for rows in parts.values()):
    return f"has no value with {FEWEST} texts"
  return ""


def _parts(values: Sequence[Any]) -> dict[str, list[int]]:
  """The texts of each value."""
  parts: dict[str, list[int]] = {}
  for i, value in enumerate(values):
    for one in _several(value):
      parts.setdefault(one, []).append(i)
  return parts


def columns(rows: Records, more: Mapping[str, Sequence[Any]]) -> dict[str, list]:
  """What a set of texts is cut by: `more`, and what each record has."""
  texts, responses = rows.column("text"), rows.column("response")
  found = {name: rows.column(name) for name in ("category", "source")}
  return {**found, "words": lengths(texts, responses), **more}


def lengths(texts: Sequence[str], responses: Sequence[str | None]) -> list[str]:
  """The length class of each text with its response, in words."""
  words = [
    len(text.split()) + len((response or "").split())
    for text, response in zip(texts, responses, strict=True)
  ]
  names = [
    *(f"{low} to {high - 1}" for low, high in itertools.pairwise(LENGTHS)),
    f"{LENGTHS[-1]} or more",
  ]
  return [names[k] for k in np.searchsorted(LENGTHS, words, side="right") - 1]


def _several(value: Any) -> list[str]:
  parts = [part.strip() for part in ("" if value is None else str(value)).split(";")]
  return list(dict.fromkeys(filter(None, parts))) or [MISSING]


def _rates(wrong: np.ndarray, harmful: np.ndarray | None) -> dict[str, Any]:
  every, none = np.ones_like(wrong), np.zeros_like(wrong)
  known = harmful is not None
  rates = {"count": len(wrong), "harmful": int(harmful.sum()) if known else None}
  for name, of in (
    ("error_rate", every),
    ("miss_rate", harmful if known else none),
    ("false_alarm_rate", ~harmful if known else none),
  ):
    value, interval = share((wrong & of).sum(), of.sum())
    rates |= {name: value, f"{name}_interval": interval}
  return rates

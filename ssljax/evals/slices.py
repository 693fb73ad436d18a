"""Where a classifier fails: the same few numbers for parts of a test set.

A part may have one class only (a category of harm, benign look-alikes), so what is
reported are shares that every part has: errors, harm that is missed, false alarms.
Their intervals are Wilson's, which hold for small counts and shares near 0.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from ssljax.data.records import Records

LENGTHS = (0, 8, 32, 128, 512)  # words from which on a text is of the next length
FEWEST = 10  # texts; of fewer there is nothing to say
MOST = 50  # values of one column
MISSING = "(none)"


def slices(
  columns: Mapping[str, Sequence[Any]], flagged: np.ndarray, harmful: np.ndarray
) -> list[dict[str, Any]]:
  """The parts of a test set, the worst first.

  The worst is the one whose error rate is the highest even at the low end of its
  interval, so that a handful of texts never comes first by chance.

  Args:
    columns: by name, a value for each text; a string with `;` in it is several values.
      Columns with more than MOST values, or one only, are no parts.
    flagged, harmful: bool [n]; with more than two classes whether the text was
      classified wrongly, and all False: then only errors are told.

  Returns:
    `column`, `value`, `count`, `harmful` and, each with its `_interval`, `error_rate`,
    `miss_rate` (None without harmful texts) and `false_alarm_rate`.
  """
  found = []
  for name, values in columns.items():
    parts: dict[str, list[int]] = {}
    for i, value in enumerate(values):
      for one in _several(value):
        parts.setdefault(one, []).append(i)
    if 1 < len(parts) <= MOST:
      found += [
        {"column": name, "value": value, **_rates(flagged[rows], harmful[rows])}
        for value, rows in parts.items()
        if len(rows) >= FEWEST
      ]
  return sorted(found, key=lambda part: -part["error_rate_interval"][0])


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


def share(part: int, whole: int) -> tuple[float | None, list[float] | None]:
  """part / whole with its 95% interval; None of nothing."""
  if not whole:
    return None, None
  low, high = stats.binomtest(part, whole).proportion_ci(0.95, method="wilson")
  return part / whole, [float(low), float(high)]


def _several(value: Any) -> list[str]:
  parts = [part.strip() for part in ("" if value is None else str(value)).split(";")]
  return list(dict.fromkeys(filter(None, parts))) or [MISSING]


def _rates(flagged: np.ndarray, harmful: np.ndarray) -> dict[str, Any]:
  rates: dict[str, Any] = {"count": len(flagged), "harmful": int(harmful.sum())}
  for name, wrong, of in (
    ("error_rate", flagged != harmful, np.ones_like(harmful)),
    ("miss_rate", ~flagged, harmful),
    ("false_alarm_rate", flagged, ~harmful),
  ):
    value, interval = share(int((wrong & of).sum()), int(of.sum()))
    rates |= {name: value, f"{name}_interval": interval}
  return rates

"""The columns that predict adds to rows, and what of theirs makes place for them."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa

from ssljax.errors import UserError

ADDED = {"score": pa.float64(), "flagged": pa.bool_(), "label_name": pa.string()}
OWN = {name: f"input_{name}" for name in ADDED}  # what the input's own come out as


class Scores(NamedTuple):
  """The columns ADDED of some rows; None in rows without a text."""

  score: list[float | None]
  flagged: list[bool | None]
  label_name: list[str | None]


def taken(names: Iterable[str], place: str) -> frozenset[str]:
  """Those of the names that the output needs for its own.

  Raises:
    UserError: what such a column comes out as is there, too.
  """
  for name, other in OWN.items():
    if name in names and other in names:
      raise UserError(
        f"{place}: column {name} comes out as {other}, which is there, too; rename one"
      )
  return frozenset(OWN).intersection(names)


def renamed(row: dict[str, Any]) -> dict[str, Any]:
  if OWN.keys().isdisjoint(row):
    return row
  return {OWN.get(name, name): value for name, value in row.items()}


def with_scores(rows: Iterable[dict[str, Any]], scores: Scores) -> list[dict[str, Any]]:
  return [
    {**row, "score": score, "flagged": flagged, "label_name": name}
    for row, score, flagged, name in zip(rows, *scores, strict=True)
  ]


# What JSON does not know, as a date of a Parquet file, is written as text.
_readable = json.JSONEncoder(ensure_ascii=False, default=str)
_escaped = json.JSONEncoder(default=str)


def line(row: dict[str, Any]) -> bytes:
  """A line of JSONL; half a surrogate pair, that UTF-8 has not, stays as its escape."""
  try:
    return (_readable.encode(row) + "\n").encode()
  except UnicodeEncodeError:
    return (_escaped.encode(row) + "\n").encode()

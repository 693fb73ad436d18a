"""Adds the score columns to rows, and renames input columns of the same names."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa

from ssljax.errors import UserError

ADDED = {"score": pa.float64(), "flagged": pa.bool_(), "label_name": pa.string()}
RENAMED = {name: f"input_{name}" for name in ADDED}  # names for the input's columns


class ScoreColumns(NamedTuple):
  """The columns ADDED for some rows; None in rows without a text."""

  score: list[float | None]
  flagged: list[bool | None]
  label_name: list[str | None]


def columns_to_rename(names: Iterable[str], where: str) -> frozenset[str]:
  """Returns the input columns whose names the output needs.

  Raises:
    UserError: the new name of such a column is in use as well.
  """
  for name, new_name in RENAMED.items():
    if name in names and new_name in names:
      raise UserError(
        f"{where}: column {name} would be written as {new_name}, which exists already; "
        "rename one of them"
      )
  return frozenset(RENAMED).intersection(names)


def rename_columns(row: dict[str, Any]) -> dict[str, Any]:
  if RENAMED.keys().isdisjoint(row):
    return row
  return {RENAMED.get(name, name): value for name, value in row.items()}


def add_scores(
  rows: Iterable[dict[str, Any]], scores: ScoreColumns
) -> list[dict[str, Any]]:
  return [
    {**row, "score": score, "flagged": flagged, "label_name": name}
    for row, score, flagged, name in zip(rows, *scores, strict=True)
  ]


# default=str: types that JSON lacks, such as the dates of a Parquet file, become text.
_readable = json.JSONEncoder(ensure_ascii=False, default=str)
_escaped = json.JSONEncoder(default=str)


def to_jsonl(row: dict[str, Any]) -> bytes:
  """Encodes a row as one line; unpaired surrogates stay JSON escapes."""
  try:
    return (_readable.encode(row) + "\n").encode()
  except UnicodeEncodeError:
    return (_escaped.encode(row) + "\n").encode()

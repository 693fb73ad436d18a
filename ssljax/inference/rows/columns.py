"""Adds the score columns to rows, and renames input columns with the same names."""

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from ssljax.errors import UserError
from ssljax.runtime import json_files

ADDED = {"score": pa.float64(), "flagged": pa.bool_(), "label_name": pa.string()}
RENAMED = {name: f"input_{name}" for name in ADDED}  # new names of input columns

Scores = list[dict[str, float | bool | str | None]]  # for each row, the columns ADDED


def columns_to_rename(names: Iterable[str], where: str) -> tuple[str, ...]:
  """Returns the input columns whose names the output needs.

  Raises:
    UserError: the new name of such a column is also in use.
  """
  for name, new_name in RENAMED.items():
    if name in names and new_name in names:
      raise UserError(
        f"{where}: column {name} would be written as {new_name}, which exists already; "
        "rename one of them"
      )
  return tuple(name for name in RENAMED if name in names)


def rename_columns(row: dict[str, Any]) -> dict[str, Any]:
  if RENAMED.keys().isdisjoint(row):
    return row
  return {RENAMED.get(name, name): value for name, value in row.items()}


def to_jsonl(row: dict[str, Any]) -> bytes:
  """Encodes a row as one line of JSON.

  Types that JSON lacks, such as dates and bytes, become text; NaN and infinities become
  null.
  """
  try:
    line = _JSON.encode(row)
  except ValueError:
    row = json_files.plain(row)
    line = _JSON.encode(row)
  try:
    return f"{line}\n".encode()
  except UnicodeEncodeError:  # an unpaired surrogate, which stays a JSON escape
    return f"{_ASCII_JSON.encode(row)}\n".encode()


def _text(value: Any) -> str:
  if isinstance(value, bytes):
    return value.decode(errors="backslashreplace")
  return str(value)


# `json.dumps` would make an encoder for every row.
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_text)
_ASCII_JSON = json.JSONEncoder(allow_nan=False, default=_text)

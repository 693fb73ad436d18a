"""Which columns are read and added, and how values are written as JSON or as cells."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from ssljax.data.records import files
from ssljax.data.records.delimited import SEPARATORS
from ssljax.errors import UserError
from ssljax.runtime import json_files

ADDED = {"score": pa.float64(), "flagged": pa.bool_(), "label_name": pa.string()}
READ = ("text", "response")  # that --columns can map

Values = list[dict[str, Any]]  # for each row, its added columns


class Layout(NamedTuple):
  """How rows are read and written.

  Args:
    output: suffix of the output: .jsonl, .parquet, .csv or .tsv.
    columns: maps `text` and `response` to other names; "" leaves the response out.
    added: the columns that are added to each row, and their types.
  """

  output: str
  columns: Mapping[str, str] = {}
  added: Mapping[str, pa.DataType] = ADDED

  @property
  def text(self) -> str:
    return self.columns.get("text", "text")

  @property
  def response(self) -> str | None:
    return self.columns.get("response", "response") or None

  @property
  def renamed(self) -> dict[str, str]:
    """New names of input columns whose names the output needs."""
    return {name: f"input_{name}" for name in self.added}

  @property
  def writes_cells(self) -> bool:
    """Whether the output is CSV or TSV."""
    return self.output in SEPARATORS

  def columns_to_rename(self, names: Iterable[str], where: str) -> tuple[str, ...]:
    """Returns the input columns that get another name.

    Raises:
      UserError: the new name of such a column is also in use.
    """
    for name, new_name in self.renamed.items():
      if name in names and new_name in names:
        raise UserError(
          f"{where}: column {name} would be written as {new_name}, which exists "
          "already; rename one of them"
        )
    return tuple(name for name in self.renamed if name in names)

  def rename(self, row: dict[str, Any]) -> dict[str, Any]:
    renamed = self.renamed
    if renamed.keys().isdisjoint(row):
      return row
    return {renamed.get(name, name): value for name, value in row.items()}

  def check_names(self, names: Sequence[str], where: str) -> None:
    """Raises UserError if a column is missing that must be there."""
    for name in ("text", *self.columns):
      theirs = self.columns.get(name, name)
      if theirs and theirs not in names:
        listed = ", ".join(files.shorten(name, 30)[1:-1] for name in names) or "none"
        raise UserError(
          f"{where}: {theirs}: no such column (others: {listed}); "
          f"name the right one with --columns={name}=NAME"
        )

  def encode_header(self, names: Iterable[str]) -> bytes:
    """The header of CSV or TSV output; b"" for other formats."""
    names = [*(self.renamed.get(name, name) for name in names), *self.added]
    return to_line(names, SEPARATORS[self.output]) if self.writes_cells else b""


def to_line(cells: Iterable[str], separator: str, end: str = "\n") -> bytes:
  """Encodes a row of CSV or TSV."""
  file = io.StringIO()
  # With this terminator, cells that contain "\r" or "\n" are quoted.
  csv.writer(file, delimiter=separator, lineterminator="\r\n").writerow(cells)
  return f"{file.getvalue()[:-2]}{end}".encode()


def to_cell(value: Any) -> str:
  """A value as a cell: nothing for null, and JSON for booleans, lists and objects."""
  if isinstance(value, str):
    return value
  if value is None or value != value:  # NaN
    return ""
  if isinstance(value, bool | list | tuple | dict):
    return _encode(value)
  return _text(value)


def to_jsonl(row: dict[str, Any]) -> bytes:
  """Encodes a row as one line of JSON.

  Types that JSON lacks, such as dates and bytes, become text; NaN and infinities become
  null.
  """
  line = _encode(row)
  try:
    return f"{line}\n".encode()
  except UnicodeEncodeError:  # an unpaired surrogate, which stays a JSON escape
    return f"{_ASCII_JSON.encode(json_files.plain(row))}\n".encode()


def _encode(value: Any) -> str:
  try:
    return _JSON.encode(value)
  except ValueError:
    return _JSON.encode(json_files.plain(value))


def _text(value: Any) -> str:
  if isinstance(value, bytes):
    return value.decode(errors="backslashreplace")
  return str(value)


# `json.dumps` would make an encoder for every row.
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_text)
_ASCII_JSON = json.JSONEncoder(allow_nan=False, default=_text)

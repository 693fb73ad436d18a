"""The columns of a record: their types, and how to read them from a file.

Values are converted to Arrow columns in chunks. If a conversion fails, the first bad
value is searched for, so that the error can name its line.
"""

import contextlib
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ssljax.data.records import delimited, files, footer
from ssljax.errors import UserError

NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
VIEW = pa.struct(
  {name: pa.large_string() for name in ("kind", "text", "response", "origin")}
)
COMPUTED_VIEWS = ("self", "words", "masked")  # not stored: training computes them
SCHEMA = pa.schema(
  {
    "id": pa.large_string(),
    "text": pa.large_string(),  # the prompt
    "response": pa.large_string(),  # null if the prompt alone is classified
    "label": pa.int64(),  # null for an unlabelled row
    "label_name": pa.large_string(),
    "category": pa.large_string(),
    "source": pa.large_string(),
    "views": pa.list_(VIEW),
  }
)


def read_columns(
  path: Path, names: Sequence[str]
) -> tuple[dict[str, pa.ChunkedArray], np.ndarray, list[str]]:
  """Reads the columns of SCHEMA that a file has.

  Args:
    names: columns to read; the values of other columns are not checked.

  Returns:
    (columns, line, ignored): the columns, cast to SCHEMA's types; the line of each
    row, i64 [n]; the names of all other columns.

  Raises:
    UserError: an unreadable file (see `files.read_rows`) or a value of the wrong type.
  """
  if files.check_format(path) != ".parquet":
    return _read_text_file(path, names)
  file = files.open_parquet(path)
  present = file.schema_arrow.names
  table = files.read_parquet(path, file, [name for name in names if name in present])
  columns = {name: convert(path, name, table[name]) for name in table.column_names}
  ignored = [name for name in present if name not in columns]
  return columns, np.arange(1, table.num_rows + 1), ignored


def read_extra_columns(path: Path, names: Sequence[str]) -> dict[str, list]:
  """Reads columns that needn't be in SCHEMA; of their values, only bytes are converted.

  Raises:
    UserError: an unreadable file (see `files.read_rows`) or a missing column.
  """
  rows = [row for _, row in files.read_rows(path)]
  present = dict.fromkeys(itertools.chain.from_iterable(rows))
  for name in names:
    if rows and name not in present:
      raise UserError(
        f"{path}: no column {name!r}; the file has the columns {', '.join(present)}"
      )
  return {name: [_decoded(row.get(name)) for row in rows] for name in names}


def _decoded(value: object) -> object:
  """Some programs write text to Parquet without saying that it is text."""
  if isinstance(value, bytes):
    return value.decode(errors="backslashreplace")
  return value


def _read_text_file(
  path: Path, names: Sequence[str]
) -> tuple[dict, np.ndarray, list[str]]:
  is_csv = files.suffix(path) in delimited.SEPARATORS
  if is_csv:
    names = [name for name in names if name != "views"]  # CSV cannot hold lists
  lines, present, chunks = [], {}, {name: [] for name in names}
  for numbered_rows in files.chunked(files.read_rows(path), files.BATCH):
    numbers, rows = zip(*numbered_rows, strict=True)
    location = lambda i, numbers=numbers: files.location(path, numbers[i])
    lines += numbers
    present.update(dict.fromkeys(itertools.chain.from_iterable(rows)))
    for name in names:
      values = [row.get(name) for row in rows]
      if is_csv and name != "text":
        values = [value or None for value in values]  # an empty cell means null
      if is_csv and name == "label":
        values = [_parse_number(value) for value in values]
      chunks[name].append(to_column(name, values, location))
  columns = {
    name: pa.chunked_array(chunks[name], SCHEMA.field(name).type)
    for name in names
    if name in present
  }
  ignored = [name for name in present if name not in names]
  return columns, np.array(lines, np.int64), ignored


def to_column(name: str, values: list, location: Callable[[int], str]) -> pa.Array:
  """Converts the values of one column to an Arrow array of SCHEMA's type.

  Args:
    location: returns the location of the value with a given index, for errors.

  Raises:
    UserError: a value of the wrong type.
  """
  if name == "label":
    # Integer columns become floats in tools that represent null as NaN. Some versions
    # of pyarrow return NumPy's float16.
    is_float = lambda v: isinstance(v, (float, np.floating))
    values = [int(v) if is_float(v) and v.is_integer() else v for v in values]
    for i, value in enumerate(values):
      if value is not None and (type(value) is not int or not 0 <= value < 1 << 31):
        raise _label_error(location(i), value)
  elif name == "id":
    values = [str(v) if type(v) is int else v for v in values]
  type_ = SCHEMA.field(name).type
  try:
    return pa.array(values, type_)
  except (pa.ArrowException, UnicodeEncodeError, TypeError):
    for i, value in enumerate(values):  # find the bad value
      try:
        pa.array([value], type_)
      except UnicodeEncodeError as error:
        raise UserError(
          f"{location(i)}: {name} contains half a surrogate pair ({_ascii(value)}), "
          "which is not valid Unicode; remove or replace the character"
        ) from error
      except (pa.ArrowException, TypeError) as error:
        expected = "a string"
        if name == "views":
          expected = "a list of objects with the strings kind, text, response, origin"
        raise UserError(
          f"{location(i)}: {name} is {_ascii(value)}, but should be {expected}; "
          "correct it"
        ) from error
    raise


def _ascii(value: object) -> str:
  return files.shorten(value).encode("ascii", "backslashreplace").decode()


def _parse_number(cell: str | None) -> float | str | None:
  """Converts a number; `float` alone would also read 0_1 and digits of any script."""
  return float(cell) if NUMBER.fullmatch((cell or "").strip()) else cell


def convert(
  path: Path, name: str, column: pa.ChunkedArray, first: int = 1
) -> pa.ChunkedArray:
  """Converts a Parquet column to SCHEMA's type.

  Args:
    first: the number of its first row in the file, for errors.
  """
  location = lambda i: files.location(path, first + i)
  target, type_ = SCHEMA.field(name).type, column.type
  value_type = type_.value_type if pa.types.is_dictionary(type_) else type_
  if name != "label" and value_type in (target, *footer.STRINGS, pa.null()):
    with contextlib.suppress(pa.ArrowException):  # `to_column` finds the bad value
      result = column.cast(target)
      result.validate(full=True)
      return result
  rows = files.to_rows(path, pa.table({name: column}), first)
  values = [row[name] for row in rows]
  if name == "label":
    values = [None if v != v else v for v in values]  # NaN means null
  return pa.chunked_array([to_column(name, values, location)])


def _label_error(location: str, value: object) -> UserError:
  reason = (
    "is not a class id; use integers 0, 1, … (or null in train for an unlabelled row); "
    "`python -m ssljax.data.prepare --labels=…` turns names into ids"
  )
  if isinstance(value, list):
    reason = (
      "lists several classes, but a text has only one; train a two-class model for "
      "each category, or define a class for each combination that matters"
    )
  return UserError(f"{location}: label {files.shorten(value)} {reason}")

"""The columns of a record: their types, and how to read them from a file.

Values are converted to Arrow columns in chunks. Only if a column has a wrong type is
the first bad value searched for, to report its line.
"""

import contextlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssljax.data.records import files
from ssljax.errors import UserError

VIEW = pa.struct(
  {name: pa.large_string() for name in ("kind", "text", "response", "origin")}
)
COMPUTED_VIEWS = ("self", "words", "masked")  # kinds that training computes itself
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
  path: Path, names: Sequence[str] = SCHEMA.names
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
  if files.check_format(path) == ".parquet":
    return _read_parquet(path, names)
  return _read_text_file(path, names)


def read_extra_columns(path: Path, names: Sequence[str]) -> dict[str, list]:
  """Reads columns that needn't be in SCHEMA, without converting their values.

  Raises:
    UserError: an unreadable file (see `files.read_rows`) or a missing column.
  """
  if files.check_format(path) == ".parquet":
    file = files.open_parquet(path)
    present = file.schema_arrow.names
    read = lambda name: file.read(columns=[name])[name].to_pylist()
  else:
    rows = [row for _, row in files.read_rows(path)]
    present = dict.fromkeys(itertools.chain.from_iterable(rows))
    read = lambda name: [row.get(name) for row in rows]
  for name in names:
    if name not in present:
      raise UserError(
        f"{path}: no column {name!r}; the file has the columns {', '.join(present)}"
      )
  return {name: read(name) for name in names}


def _read_text_file(
  path: Path, names: Sequence[str]
) -> tuple[dict, np.ndarray, list[str]]:
  is_csv = files.suffix(path) == ".csv"
  if is_csv:
    names = [name for name in names if name != "views"]  # CSV cannot hold lists
  chunks, lines, present = [], [], {}
  for numbered_rows in files.chunked(files.read_rows(path), files.BATCH):
    numbers, rows = zip(*numbered_rows, strict=True)
    location = lambda i, numbers=numbers: files.location(path, numbers[i])
    present.update(dict.fromkeys(itertools.chain.from_iterable(rows)))
    chunk = {}
    for name in names:
      values = [row.get(name) for row in rows]
      if is_csv and name != "text":
        values = [value or None for value in values]  # an empty cell means null
      if is_csv and name == "label":
        values = [_parse_number(value) for value in values]
      chunk[name] = to_column(name, values, location)
    chunks.append(chunk)
    lines.append(np.array(numbers, np.int64))
  columns = {
    name: pa.chunked_array([chunk[name] for chunk in chunks], SCHEMA.field(name).type)
    for name in names
    if name in present
  }
  ignored = [name for name in present if name not in names]
  return columns, np.concatenate(lines or [np.zeros(0, np.int64)]), ignored


def to_column(name: str, values: list, location: Callable[[int], str]) -> pa.Array:
  """Converts the values of one column to an Arrow array of SCHEMA's type.

  Args:
    location: index of a value -> the location to name in errors.

  Raises:
    UserError: a value of the wrong type.
  """
  types = {type(value) for value in values} - {type(None)}
  if name == "label":
    # Integer columns become floats in tools that represent null as NaN.
    values = [int(v) if type(v) is float and v.is_integer() else v for v in values]
    if bad := _first(values, lambda v: type(v) is not int or abs(v) >= 1 << 31):
      raise label_error(location(bad[0]), bad[1])
  elif name == "views":
    if types - {list}:
      bad = _first(values, lambda value: not isinstance(value, list))
      raise type_error(location(bad[0]), name, bad[1], "a list of views")
  elif types - {str}:
    if name == "id":
      values = [str(v) if type(v) is int else v for v in values]
    if bad := _first(values, lambda value: not isinstance(value, str)):
      raise type_error(location(bad[0]), name, bad[1], "a string")
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
        expected = "a list of objects with the strings kind, text, response, origin"
        raise type_error(location(i), name, value, expected) from error
    raise


def _ascii(value: object) -> str:
  return files.shorten(value).encode("ascii", "backslashreplace").decode()


def _parse_number(cell: str | None) -> int | float | str | None:
  for parse in (int, float):
    with contextlib.suppress(ValueError, TypeError):
      return parse(cell)
  return cell


def _first(values: list, is_bad: Callable[[object], bool]) -> tuple[int, object] | None:
  """Index and value of the first bad value; null is never bad."""
  return next(
    ((i, v) for i, v in enumerate(values) if v is not None and is_bad(v)), None
  )


def _read_parquet(
  path: Path, wanted: Sequence[str]
) -> tuple[dict, np.ndarray, list[str]]:
  file = files.open_parquet(path)
  names = file.schema_arrow.names
  present = [name for name in wanted if name in names]
  try:
    table = file.read(columns=present)
  except (pa.ArrowException, OSError) as error:
    raise files.unreadable(path, error) from error
  columns = {name: _cast(path, name, table[name]) for name in present}
  ignored = [name for name in names if name not in columns]
  return columns, np.arange(1, table.num_rows + 1), ignored


def _cast(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
  """Casts a Parquet column to SCHEMA's type."""
  target, type_ = SCHEMA.field(name).type, column.type
  if not _is_castable(name, type_) and not pa.types.is_null(type_):
    row = int(np.argmax(column.is_valid().to_numpy())) if len(column) else 0
    value = column[row].as_py() if len(column) else None
    location = files.location(path, row + 1)
    if name == "label":
      raise label_error(location, value)
    expected = "a list of views" if name == "views" else "a string"
    raise type_error(location, name, value, f"{expected}, not {type_}")
  if pa.types.is_floating(type_):
    column = pc.if_else(pc.is_nan(column), None, column)
    bad = pc.fill_null(pc.not_equal(column, pc.round(column)), False).to_numpy()
    if bad.any():
      row = int(np.argmax(bad))
      raise label_error(files.location(path, row + 1), column[row].as_py())
  try:
    column = column.cast(target)
    column.validate(full=True)
  except (pa.ArrowException, KeyError) as error:
    row = _first_undecodable(column)
    if row is not None:
      raise UserError(
        f"{files.location(path, row + 1)}: {name} is not valid UTF-8; write the file "
        "again from decoded text"
      ) from error
    location = files.location(path, 1)
    raise type_error(location, name, str(type_), f"of type {target}") from error
  return column


def _is_castable(name: str, type_: pa.DataType) -> bool:
  if name == "label":
    return pa.types.is_integer(type_) or pa.types.is_floating(type_)
  if name == "views":
    return pa.types.is_list(type_) or pa.types.is_large_list(type_)
  if name == "id" and pa.types.is_integer(type_):
    return True
  value_type = type_.value_type if pa.types.is_dictionary(type_) else type_
  return value_type in (pa.string(), pa.large_string(), pa.string_view())


def _first_undecodable(column: pa.ChunkedArray) -> int | None:
  for row, value in enumerate(column):
    try:
      value.as_py()
    except UnicodeDecodeError:
      return row
  return None


def label_error(location: str, value: object) -> UserError:
  if isinstance(value, list):
    return UserError(
      f"{location}: label {files.shorten(value)} lists several classes, but a text has "
      "only one; train a two-class model for each category, or make a class of each "
      "combination that matters"
    )
  return UserError(
    f"{location}: label {files.shorten(value)} is not a class id; use integers 0, 1, … "
    "(or null in train for an unlabelled row); `python -m ssljax.data.prepare "
    "--labels=…` turns names into ids"
  )


def type_error(location: str, name: str, value: object, expected: str) -> UserError:
  return UserError(
    f"{location}: {name} is {_ascii(value)}, but should be {expected}; correct it"
  )

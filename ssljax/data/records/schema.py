"""The record's columns, read from a file and held to their types.

Rows become Arrow columns a batch at a time; only where a column has a wrong type is
the first bad value looked for, to name its line.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssljax.data.records import files
from ssljax.errors import UserError

VIEW = pa.struct(
  {name: pa.large_string() for name in ("kind", "text", "response", "origin")}
)
MADE = ("self", "words", "masked")  # kinds of view that training makes by itself
SCHEMA = pa.schema(
  {
    "id": pa.large_string(),
    "text": pa.large_string(),  # the prompt
    "response": pa.large_string(),  # null where only the text is judged
    "label": pa.int64(),  # null for an unlabelled row
    "label_name": pa.large_string(),
    "category": pa.large_string(),
    "source": pa.large_string(),
    "views": pa.list_(VIEW),
  }
)


def read(
  path: Path, names: Sequence[str] = SCHEMA.names
) -> tuple[dict[str, pa.ChunkedArray], np.ndarray, list[str]]:
  """The columns of SCHEMA that a file has.

  Args:
    names: those that are wanted; what the others hold is not looked at.

  Returns:
    (columns, line, ignored): the columns, cast to SCHEMA's types; the line of each
    row, i64 [n]; the names of all other columns.

  Raises:
    UserError: what `files.rows` finds, or a value of the wrong type.
  """
  if files.check(path) == ".parquet":
    return _read_parquet(path, names)
  return _read_rows(path, names)


def others(path: Path, names: Sequence[str]) -> dict[str, list]:
  """Columns of a file that need not be of SCHEMA, as they stand there.

  Raises:
    UserError: what `files.rows` finds, or no column of a name.
  """
  if files.check(path) == ".parquet":
    file = files.parquet(path)
    known = file.schema_arrow.names
    found = {name: file.read(columns=[name])[name] for name in names if name in known}
    found = {name: column.to_pylist() for name, column in found.items()}
  else:
    rows = [row for _, row in files.rows(path)]
    known = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    found = {name: [row.get(name) for row in rows] for name in names if name in known}
  for name in names:
    if name not in found:
      raise UserError(f"{path}: {name}: no such column; there are {', '.join(known)}")
  return found


def _read_rows(path: Path, names: Sequence[str]) -> tuple[dict, np.ndarray, list[str]]:
  """Columns that are there, the line of each row, columns that are ignored."""
  text_only = files.suffix(path) == ".csv"
  chunks, lines, ignored = [], [], {}
  for some in _batches(files.rows(path)):
    numbers = [number for number, _ in some]
    seen = dict.fromkeys(itertools.chain.from_iterable(row for _, row in some))
    known = [name for name in names if name in seen]
    if text_only and "views" in known:
      known.remove("views")  # a list of structs has no form in CSV
    ignored.update(dict.fromkeys(name for name in seen if name not in known))
    chunk = {}
    for name in known:
      values = [row.get(name) for _, row in some]
      if text_only and name != "text":
        values = [value or None for value in values]  # an empty cell is no value
      chunk[name] = _column(path, numbers, name, values, text_only)
    chunks.append(chunk)
    lines.append(np.array(numbers, np.int64))
  present = [name for name in names if any(name in chunk for chunk in chunks)]
  columns = {}
  for name in present:
    kind = SCHEMA.field(name).type
    arrays = [
      chunk[name] if name in chunk else pa.nulls(len(line), kind)
      for chunk, line in zip(chunks, lines, strict=True)
    ]
    columns[name] = pa.chunked_array(arrays, kind)
  return columns, np.concatenate(lines or [np.zeros(0, np.int64)]), list(ignored)


def _batches(rows: Iterator) -> Iterator[list]:
  while some := list(itertools.islice(rows, files.BATCH)):
    yield some


def _column(
  path: Path, numbers: Sequence[int], name: str, values: list, text_only: bool
) -> pa.Array:
  kinds = {type(value) for value in values} - {type(None)}
  if name == "label":
    if text_only:
      values = [_number(value) for value in values]
    # A float stands for an integer where nulls made a column of floats.
    values = [int(v) if type(v) is float and v.is_integer() else v for v in values]
    if bad := _first(values, lambda v: type(v) is not int or abs(v) >= 1 << 31):
      raise bad_label(files.place(path, numbers[bad[0]]), bad[1])
  elif name == "views":
    if kinds - {list}:
      bad = _first(values, lambda value: not isinstance(value, list))
      raise wrong(files.place(path, numbers[bad[0]]), name, bad[1], "a list of views")
  elif kinds - {str}:
    if name == "id":
      values = [str(v) if type(v) is int else v for v in values]
    if bad := _first(values, lambda value: not isinstance(value, str)):
      raise wrong(files.place(path, numbers[bad[0]]), name, bad[1], "a string")
  kind = SCHEMA.field(name).type
  try:
    return pa.array(values, kind)
  except (pa.ArrowException, UnicodeEncodeError, TypeError):
    for number, value in zip(numbers, values, strict=True):  # which one was it?
      try:
        pa.array([value], kind)
      except UnicodeEncodeError as error:
        raise UserError(
          f"{files.place(path, number)}: {name}: half a surrogate pair in "
          f"{_ascii(value)}, not valid Unicode; remove or replace the character"
        ) from error
      except (pa.ArrowException, TypeError) as error:
        raise wrong(
          files.place(path, number),
          name,
          value,
          "a list of objects with the strings kind, text, response, origin",
        ) from error
    raise


def _ascii(value: object) -> str:
  return files.short(value).encode("ascii", "backslashreplace").decode()


def _number(cell: str | None) -> int | float | str | None:
  try:
    return cell if cell is None else int(cell)
  except ValueError:
    try:
      return float(cell)
    except ValueError:
      return cell


def _first(values: list, wrong) -> tuple[int, object] | None:
  """Index and value of the first value that is there and wrong."""
  return next(
    ((i, v) for i, v in enumerate(values) if v is not None and wrong(v)), None
  )


def _read_parquet(
  path: Path, wanted: Sequence[str]
) -> tuple[dict, np.ndarray, list[str]]:
  file = files.parquet(path)
  names = file.schema_arrow.names
  known = [name for name in wanted if name in names]
  try:
    table = file.read(columns=known)
  except (pa.ArrowException, OSError) as error:
    raise files.broken(path, error) from error
  columns = {name: _cast(path, name, table[name]) for name in known}
  ignored = [name for name in names if name not in known]
  return columns, np.arange(1, table.num_rows + 1), ignored


def _cast(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
  wanted, kind = SCHEMA.field(name).type, column.type
  integer = pa.types.is_integer(kind)
  fits = {
    "label": integer or pa.types.is_floating(kind),
    "views": pa.types.is_list(kind) or pa.types.is_large_list(kind),
    "id": integer,
  }.get(name, False)
  if name != "label" and name != "views":
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    fits |= pa.types.is_string(plain) or pa.types.is_large_string(plain)
    fits |= pa.types.is_string_view(plain)
  if not fits and not pa.types.is_null(kind):
    row = int(np.argmax(column.is_valid().to_numpy())) if len(column) else 0
    value = column[row].as_py() if len(column) else None
    if name == "label":
      raise bad_label(files.place(path, row + 1), value)
    expected = "a list of views" if name == "views" else "a string"
    raise wrong(files.place(path, row + 1), name, value, f"{expected}, not {kind}")
  if pa.types.is_floating(kind):
    column = pc.if_else(pc.is_nan(column), None, column)
    bad = pc.fill_null(pc.not_equal(column, pc.round(column)), False).to_numpy()
    if bad.any():
      row = int(np.argmax(bad))
      raise bad_label(files.place(path, row + 1), column[row].as_py())
  try:
    column = column.cast(wanted)
    column.validate(full=True)
  except (pa.ArrowException, KeyError) as error:
    row = _undecodable(column)
    if row is not None:
      raise UserError(
        f"{files.place(path, row + 1)}: {name}: not valid UTF-8; write the file again "
        "from decoded text"
      ) from error
    raise wrong(files.place(path, 1), name, str(kind), f"of type {wanted}") from error
  return column


def _undecodable(column: pa.ChunkedArray) -> int | None:
  for row, value in enumerate(column):
    try:
      value.as_py()
    except UnicodeDecodeError:
      return row
  return None


def bad_label(place: str, value: object) -> UserError:
  if isinstance(value, list):
    return UserError(
      f"{place}: label: {files.short(value)} are several classes, and a text has one "
      "here; train a model of two classes for each category, or make a class of each "
      "combination that matters"
    )
  return UserError(
    f"{place}: label: {files.short(value)} is not a class id; use integers 0, 1, … (or "
    "null in train for an unlabelled row); `python -m ssljax.data.prepare --labels=…` "
    "turns names into ids"
  )


def wrong(place: str, name: str, value: object, expected: str) -> UserError:
  return UserError(
    f"{place}: {name}: {_ascii(value)} should be {expected}; correct the value"
  )

"""Arrow types for rows of JSON, which names none: found piece by piece, then united."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.errors import UserError

WAY_OUT = "give an --output that ends in .jsonl"


class Types:
  """Columns that hold all rows so far.

  Attributes:
    mixed: pieces had other types than all together, so that a value, such as a large
      integer among floats, may not fit after all.
  """

  def __init__(self, columns: pa.Schema):
    """`columns`: those that are there even where no row has them."""
    self._columns, self._found, self.mixed = columns, None, False

  @property
  def schema(self) -> pa.Schema:
    return _united([self._found, self._columns] if self._found else [self._columns])

  def add(self, rows: Sequence[dict], place: Callable[[int], str]) -> None:
    """Takes more rows in; `place(i)` names row i of them.

    Raises:
      UserError: Parquet cannot hold them, or not with the rows before.
    """
    with _fitting(f"{place(0)} and after"):
      try:
        found = _inferred(rows)
      except UnicodeEncodeError:
        first = next(i for i, row in enumerate(rows) if _is_halved(row))
        raise UserError(
          f"{place(first)}: half a surrogate pair, which Parquet cannot hold; {WAY_OUT}"
        ) from None
      known = self._found
      self._found = _united([known, found] if known else [found])
      self.mixed |= found != self._found or (known or found) != self._found
      if known != self._found:
        _try_out(self.schema)


def table(rows: Sequence[dict], schema: pa.Schema, place: str) -> pa.Table:
  """Rows as Arrow has them; UserError, naming `place`, where one does not fit."""
  with _fitting(place):
    return pa.Table.from_pylist(rows, schema=schema)


@contextlib.contextmanager
def _fitting(place: str) -> Iterator[None]:
  """Says of values that Parquet cannot hold what to do."""
  try:
    yield
  except (pa.ArrowException, OverflowError, OSError) as error:
    raise UserError(
      f"{place}: the columns have no Parquet type ({error}); {WAY_OUT}"
    ) from None


def _inferred(rows: Sequence[dict]) -> pa.Schema:
  fields = []
  for name in dict.fromkeys(name for row in rows for name in row):
    try:
      fields.append((name, pa.array([row.get(name) for row in rows]).type))
    except (pa.ArrowException, OverflowError) as error:
      raise pa.ArrowInvalid(f"{name}: {error}") from None
  return pa.schema(fields)


def _united(schemas: Sequence[pa.Schema]) -> pa.Schema:
  return pa.unify_schemas(schemas, promote_options="permissive")


def _try_out(schema: pa.Schema) -> None:
  # Parquet knows no struct without fields, and does not read deep ones again.
  file = io.BytesIO()
  pq.write_table(schema.empty_table(), file)
  pq.ParquetFile(file)


def _is_halved(row: dict) -> bool:
  try:
    json.dumps(row, ensure_ascii=False).encode()
  except UnicodeEncodeError:
    return True
  return False

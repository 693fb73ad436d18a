"""Infers Arrow types for JSON rows, chunk by chunk."""

import contextlib
import io
import json
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.errors import UserError

SURROGATE = re.compile("[\ud800-\udfff]")
USE_JSONL = "give an --output that ends in .jsonl"


class TypeInference:
  """Infers a schema that fits all rows added so far.

  Attributes:
    mixed: whether chunks had different types. If so, a value may still not fit the
      common type, such as a large integer in a column of floats.
  """

  def __init__(self, base: pa.Schema):
    """`base` holds the columns that exist even if no row has them."""
    self._base, self._inferred, self.mixed = base, pa.schema([]), False

  @property
  def schema(self) -> pa.Schema:
    return _unify(self._inferred, self._base)

  def add(self, rows: Sequence[dict], places: Sequence[str]) -> None:
    """Extends the schema for more rows; `places` name the rows in errors.

    Raises:
      UserError: Parquet can't hold the rows, or can't hold them together with earlier
        rows.
    """
    before = self._inferred
    with _type_errors(f"{places[0]} and after"):
      try:
        inferred = _infer(rows)
      except UnicodeEncodeError:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        first = next(i for i, line in enumerate(lines) if SURROGATE.search(line))
        raise UserError(
          f"{places[first]}: an unpaired surrogate, which Parquet can't hold; "
          f"{USE_JSONL}"
        ) from None
      self._inferred = _unify(before, inferred)
      self.mixed |= any(s != self._inferred for s in (before, inferred) if len(s))
      if before != self._inferred:
        # Parquet has no structs without fields, and can't read deeply nested ones back.
        file = io.BytesIO()
        pq.write_table(self.schema.empty_table(), file)
        pq.ParquetFile(file)


def to_table(rows: Sequence[dict], schema: pa.Schema, where: str) -> pa.Table:
  """Converts rows to Arrow.

  Raises:
    UserError: a row doesn't fit the schema; `where` names the rows.
  """
  with _type_errors(where):
    return pa.Table.from_pylist(rows, schema=schema)


@contextlib.contextmanager
def _type_errors(where: str) -> Iterator[None]:
  """Turns Arrow's errors into a UserError that says what to do."""
  try:
    yield
  except (pa.ArrowException, OverflowError, OSError) as error:
    raise UserError(
      f"{where}: the columns have no Parquet type ({error}); {USE_JSONL}"
    ) from None


def _infer(rows: Sequence[dict]) -> pa.Schema:
  fields = []
  for name in dict.fromkeys(name for row in rows for name in row):
    try:
      fields.append((name, pa.array([row.get(name) for row in rows]).type))
    except (pa.ArrowException, OverflowError) as error:
      raise pa.ArrowInvalid(f"{name}: {error}") from None
  return pa.schema(fields)


def _unify(*schemas: pa.Schema) -> pa.Schema:
  return pa.unify_schemas(schemas, promote_options="permissive")

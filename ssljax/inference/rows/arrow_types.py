"""Infers Arrow types for JSON rows, chunk by chunk."""

import contextlib
import io
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.errors import UserError

USE_JSONL = "give an --output that ends in .jsonl"


def extend_schema(schema: pa.Schema, rows: Sequence[dict], where: str) -> pa.Schema:
  """Returns `schema` extended with the columns and types that `rows` need.

  A value may still not fit the type that its column ends up with, such as a large
  integer in a column of floats; only `to_table` with the final schema detects this.

  Raises:
    UserError: Parquet can't hold the rows, or can't hold them together with earlier
      rows; `where` names the rows.
  """
  with _type_errors(where):
    extended = unify(schema, pa.schema(_infer_fields(rows)))
    if extended != schema:
      # Fails for types that Parquet can't hold (structs without fields) or can't read
      # again (deeply nested ones).
      file = io.BytesIO()
      pq.write_table(extended.empty_table(), file)
      pq.ParquetFile(file)
  return extended


def unify(*schemas: pa.Schema) -> pa.Schema:
  return pa.unify_schemas(schemas, promote_options="permissive")


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


def _infer_fields(rows: Sequence[dict]) -> Iterator[tuple[str, pa.DataType]]:
  for name in dict.fromkeys(name for row in rows for name in row):
    try:
      yield name, pa.array([row.get(name) for row in rows]).type
    except (pa.ArrowException, OverflowError) as error:
      raise pa.ArrowInvalid(f"{name}: {error}") from None

"""Infers Arrow types for JSON rows, chunk by chunk."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.errors import UserError

USE_JSONL = "give an --output that ends in .jsonl"


class TypeInference:
  """Infers a schema that holds all rows added so far.

  Attributes:
    mixed: chunks had different types, so a value may still not fit the common type,
      such as a large integer in a column of floats.
  """

  def __init__(self, base: pa.Schema):
    """`base` holds the columns that exist even if no row has them."""
    self._base, self._inferred, self.mixed = base, None, False

  @property
  def schema(self) -> pa.Schema:
    return _unify([self._inferred, self._base] if self._inferred else [self._base])

  def add(self, rows: Sequence[dict], where: Callable[[int], str]) -> None:
    """Extends the schema for more rows; `where(i)` names row i in errors.

    Raises:
      UserError: Parquet can't hold the rows, or not together with the rows before.
    """
    with _type_errors(f"{where(0)} and after"):
      try:
        inferred = _infer(rows)
      except UnicodeEncodeError:
        first = next(i for i, row in enumerate(rows) if _has_surrogate(row))
        raise UserError(
          f"{where(first)}: an unpaired surrogate, which Parquet can't hold; "
          f"{USE_JSONL}"
        ) from None
      before = self._inferred
      self._inferred = _unify([before, inferred] if before else [inferred])
      self.mixed |= inferred != self._inferred or (before or inferred) != self._inferred
      if before != self._inferred:
        _try_parquet(self.schema)


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


def _unify(schemas: Sequence[pa.Schema]) -> pa.Schema:
  return pa.unify_schemas(schemas, promote_options="permissive")


def _try_parquet(schema: pa.Schema) -> None:
  # Parquet has no structs without fields, and can't read deeply nested ones back.
  file = io.BytesIO()
  pq.write_table(schema.empty_table(), file)
  pq.ParquetFile(file)


def _has_surrogate(row: dict) -> bool:
  try:
    json.dumps(row, ensure_ascii=False).encode()
  except UnicodeEncodeError:
    return True
  return False

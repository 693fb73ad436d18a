"""Checks the footer of a Parquet file, which has no checksum."""

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.errors import UserError

STRINGS = (pa.string(), pa.large_string(), pa.string_view())


def check(file: pq.ParquetFile) -> None:
  """Raises ValueError if the footer contradicts itself."""
  meta = file.metadata
  counts = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
  if sum(counts) != meta.num_rows:
    raise ValueError(f"{meta.num_rows} rows, but {sum(counts)} in its row groups")
  # Arrow stores the schema a second time. Other programs may leave it outdated.
  stored = (meta.metadata or {}).get(b"ARROW:schema")
  if stored and meta.created_by.startswith("parquet-cpp-arrow"):
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stored)))
    if list(_outline(schema)) != list(_outline(file.schema_arrow)):
      raise ValueError("its two lists of columns differ")


def check_unique_names(path: Path, fields: Iterable[pa.Field], what: str) -> None:
  """Refuses a name that stands for two columns, or for two fields of a struct."""
  seen = set()
  for field in fields:
    if field.name in seen:
      raise UserError(
        f"{path}: two {what} are named {field.name!r}; rename one of them"
      )
    seen.add(field.name)
    check_unique_names(path, _struct_fields(field), f"fields of {field.name}")


def _innermost(type_: pa.DataType) -> pa.DataType:
  """The type of the items of a list, map or dictionary; other types are unchanged."""
  names = ("value_type", "item_type", "storage_type")
  name = next((name for name in names if hasattr(type_, name)), None)
  return _innermost(getattr(type_, name)) if name else type_


def _struct_fields(field: pa.Field) -> list[pa.Field]:
  """The fields of a struct or of a list of structs; otherwise []."""
  type_ = _innermost(field.type)
  return list(type_) if pa.types.is_struct(type_) else []


def _outline(fields: Iterable[pa.Field]) -> Iterator[tuple[str, bool, bool]]:
  """The names of columns and of the fields of their structs; which are text or bytes.

  Other types may differ: Parquet has no timestamps in seconds, for example.
  """
  for field in fields:
    type_ = _innermost(field.type)
    yield field.name, type_ in STRINGS, _is_bytes(type_)
    yield from _outline(_struct_fields(field))


def _is_bytes(type_: pa.DataType) -> bool:
  return (
    pa.types.is_binary(type_)
    or pa.types.is_large_binary(type_)
    or pa.types.is_binary_view(type_)
    or pa.types.is_fixed_size_binary(type_)
  )

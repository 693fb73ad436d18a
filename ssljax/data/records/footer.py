"""Checks the footer of a Parquet file, which has no checksum."""

import base64
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.errors import UserError

STRINGS = (pa.string(), pa.large_string(), pa.string_view())


def check(file: pq.ParquetFile) -> None:
  """Raises ValueError if the footer contradicts itself."""
  meta = file.metadata
  groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
  count = sum(group.num_rows for group in groups)
  if count != meta.num_rows:
    raise ValueError(f"{meta.num_rows} rows, but {count} in its row groups")
  types = [meta.schema.column(i).physical_type for i in range(meta.num_columns)]
  for group, (i, type_) in itertools.product(groups, enumerate(types)):
    if group.column(i).physical_type != type_:
      raise ValueError(f"two types for {meta.schema.column(i).path}")
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


def _outline(fields: Iterable[pa.Field]) -> Iterator[tuple[str, bool]]:
  """The names of columns and of the fields of their structs; whether each is text."""
  for field in fields:
    yield field.name, _innermost(field.type) in STRINGS
    yield from _outline(_struct_fields(field))

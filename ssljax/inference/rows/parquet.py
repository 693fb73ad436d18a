"""Rows of a Parquet file with texts, in pieces: Arrow tables, whose types they keep."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.inference.rows import columns


class ParquetRows:
  """Rows of a Parquet file. Attributes as of `JsonRows`."""

  def __init__(self, path: Path, output: str, size: int):
    self.path, self._size, self._file = path, size, files.parquet(path)
    self.total = self._file.metadata.num_rows
    own = self._file.schema_arrow
    _check_columns(own, path)
    self.renamed = columns.taken(own.names, str(path))
    fields = [field.with_name(columns.OWN.get(field.name, field.name)) for field in own]
    self.schema = None
    if output == ".parquet":
      self.schema = pa.schema([*fields, *pa.schema(columns.ADDED)], own.metadata)

  def check(self) -> Iterator[int]:
    """Reads what Python must have of a file: texts, for JSONL every column.

    Yields:
      How many rows were read since.

    Raises:
      UserError: a value that cannot be read.
    """
    begin = 1
    for piece in self.pieces():
      self._try(self.texts, piece, begin, "mend the text")
      if self.schema is None:
        way_out = "give an --output that ends in .parquet"
        self._try(pa.Table.to_pylist, piece, begin, way_out)
      begin += len(piece)
      yield len(piece)

  def pieces(self, skip: int = 0) -> Iterator[pa.Table]:
    """Rows from row `skip` on.

    Raises:
      UserError: the file is damaged.
    """
    held: list[pa.RecordBatch] = []
    for batch in self._batches(skip):
      while len(batch) >= (lacking := self._size - sum(map(len, held))):
        yield pa.Table.from_batches([*held, batch.slice(0, lacking)])
        held, batch = [], batch.slice(lacking)
      held.append(batch)
    if sum(map(len, held)):
      yield pa.Table.from_batches(held)

  def texts(self, piece: pa.Table) -> list[tuple[str | None, str | None]]:
    texts, responses = piece.column("text").to_pylist(), itertools.repeat(None)
    if "response" in piece.column_names:
      responses = piece.column("response").to_pylist()
    return list(zip(texts, responses, strict=False))

  def write(self, piece: pa.Table, scores: columns.Scores, file: BinaryIO) -> None:
    if self.schema is None:
      rows = [columns.renamed(row) for row in piece.to_pylist()]
      file.writelines(map(columns.line, columns.with_scores(rows, scores)))
    else:
      more = map(pa.array, scores, columns.ADDED.values())
      table = pa.Table.from_arrays([*piece.columns, *more], schema=self.schema)
      pq.write_table(table, file, compression="zstd")

  def _batches(self, skip: int) -> Iterator[pa.RecordBatch]:
    meta = self._file.metadata
    for group in range(meta.num_row_groups):
      if skip >= meta.row_group(group).num_rows:
        skip -= meta.row_group(group).num_rows
        continue
      try:
        # One by one: pyarrow has no batch of nested dictionaries across row groups.
        for batch in self._file.iter_batches(self._size, row_groups=[group]):
          over = min(skip, len(batch))
          skip -= over
          yield batch.slice(over)
      except (pa.ArrowException, OSError) as error:
        raise files.broken(self.path, error) from error

  def _try(
    self, read: Callable[[pa.Table], Any], piece: pa.Table, begin: int, way_out: str
  ) -> None:
    """Reads a piece that begins with row `begin`, to name the row that cannot be."""
    try:
      read(piece)
    except (ValueError, OverflowError, pa.ArrowException) as error:
      if len(piece) > 1:
        for i in range(len(piece)):
          self._try(read, piece.slice(i, 1), begin + i, way_out)
      place = files.place(self.path, begin)
      raise UserError(f"{place}: cannot be read ({error}); {way_out}") from None


def _check_columns(schema: pa.Schema, path: Path) -> None:
  names = schema.names
  for name in names:
    if names.count(name) > 1:
      raise UserError(f"{path}: column {name!r} is there twice; rename one")
  if "text" not in names:
    raise UserError(f"{path}: text: no such column (others: {', '.join(names)})")
  for name in {"text", "response"} & set(names):
    kind = schema.field(name).type
    if not _is_text(kind):
      raise UserError(f"{path}: {name}: a column of {kind} should be one of strings")


def _is_text(kind: pa.DataType) -> bool:
  if pa.types.is_dictionary(kind):
    kind = kind.value_type
  return kind in (pa.string(), pa.large_string(), pa.string_view(), pa.null())

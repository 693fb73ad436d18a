"""Reads rows with texts from Parquet, in chunks that are Arrow tables."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files, footer
from ssljax.data.records.delimited import SEPARATORS
from ssljax.errors import UserError
from ssljax.inference.rows import columns


class ParquetReader:
  """Reads a Parquet file. Has the methods and attributes of `JsonlReader`."""

  def __init__(self, path: Path, layout: columns.Layout, chunk_size: int) -> None:
    self._path, self._layout, self._chunk_size = path, layout, chunk_size
    self._file = files.open_parquet(path)
    self.total = self._file.metadata.num_rows
    schema = self._file.schema_arrow
    _check_columns(schema, layout, path)
    self.renamed = layout.columns_to_rename(schema.names, str(path))
    self.head = layout.encode_header(schema.names)
    self.schema = None
    if layout.output == ".parquet":
      new_name = layout.renamed
      fields = [f.with_name(new_name.get(f.name, f.name)) for f in schema]
      self.schema = pa.schema([*fields, *pa.schema(layout.added)], schema.metadata)

  def check(self) -> Iterator[int]:
    """Reads the texts, or all columns if the output isn't Parquet.

    Yields the number of rows in each chunk.

    Raises:
      UserError: a value can't be read.
    """
    first = 1
    for chunk in self.chunks():
      self._try(self.texts, chunk, first, "correct the text")
      if self.schema is None:
        hint = "give an --output that ends in .parquet"
        self._try(pa.Table.to_pylist, chunk, first, hint)
      first += len(chunk)
      yield len(chunk)

  def chunks(self, skip: int = 0) -> Iterator[pa.Table]:
    """Reads rows in chunks, without the first `skip` rows.

    Raises:
      UserError: the file is damaged.
    """
    held: list[pa.RecordBatch] = []
    for batch in self._batches(skip):
      while len(batch) >= (needed := self._chunk_size - sum(map(len, held))):
        yield pa.Table.from_batches([*held, batch.slice(0, needed)])
        held, batch = [], batch.slice(needed)
      held.append(batch)
    if sum(map(len, held)):
      yield pa.Table.from_batches(held)

  def texts(self, chunk: pa.Table) -> list[tuple[str | None, str | None]]:
    """Returns the pairs of text and response."""
    texts, response = chunk[self._layout.text].to_pylist(), self._layout.response
    if response not in chunk.column_names:
      return [(text, None) for text in texts]
    return list(zip(texts, chunk[response].to_pylist(), strict=True))

  def part(self, chunk: pa.Table, begin: int, end: int) -> pa.Table:
    """Some rows of a chunk."""
    return chunk.slice(begin, end - begin)

  def write(self, chunk: pa.Table, values: columns.Values, file: BinaryIO) -> None:
    """Writes the rows with their added columns in the output's format."""
    if self.schema is not None:
      added = pa.Table.from_pylist(values, pa.schema(self._layout.added))
      table = pa.Table.from_arrays([*chunk.columns, *added.columns], schema=self.schema)
      pq.write_table(table, file, **files.PARQUET)
      return
    for row, added in zip(chunk.to_pylist(), values, strict=True):
      row = self._layout.rename(row) | added
      if self._layout.writes_cells:
        cells = map(columns.to_cell, row.values())
        file.write(columns.to_line(cells, SEPARATORS[self._layout.output]))
      else:
        file.write(columns.to_jsonl(row))

  def _batches(self, skip: int) -> Iterator[pa.RecordBatch]:
    # pyarrow can't form batches of nested dictionaries across row groups.
    for group in range(self._file.num_row_groups):
      options = (self._path, self._file, self._chunk_size, [group])
      for batch in files.read_batches(*options):
        skipped = min(skip, len(batch))
        skip -= skipped
        yield batch.slice(skipped)

  def _try(
    self, read: Callable[[pa.Table], Any], chunk: pa.Table, first: int, hint: str
  ) -> None:
    """Reads a chunk that starts at row `first`; an error names the exact row."""
    try:
      read(chunk)
    except files.NOT_PYTHON as error:
      if len(chunk) > 1:
        for i in range(len(chunk)):
          self._try(read, chunk.slice(i, 1), first + i, hint)
      where = files.location(self._path, first)
      raise UserError(f"{where}: cannot be read ({error}); {hint}") from None


def _check_columns(schema: pa.Schema, layout: columns.Layout, path: Path) -> None:
  names = schema.names
  layout.check_names(names, str(path))
  for name in {layout.text, layout.response} & set(names):
    dtype = schema.field(name).type
    values = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    if values not in (*footer.STRINGS, pa.null()):
      raise UserError(
        f"{path}: {name}: the column has type {dtype}; it should hold strings"
      )

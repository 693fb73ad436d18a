"""Reads rows with texts from Parquet, in chunks that are Arrow tables."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files, footer
from ssljax.errors import UserError
from ssljax.inference.rows import columns


class ParquetReader:
  """Reads a Parquet file. Has the methods and attributes of `JsonlReader`."""

  def __init__(self, path: Path, output_suffix: str, chunk_size: int):
    self._path, self._chunk_size = path, chunk_size
    self._file = files.open_parquet(path)
    self.total = self._file.metadata.num_rows
    schema = self._file.schema_arrow
    _check_columns(schema, path)
    self.renamed = columns.columns_to_rename(schema.names, str(path))
    self.schema = None
    if output_suffix == ".parquet":
      fields = [f.with_name(columns.RENAMED.get(f.name, f.name)) for f in schema]
      self.schema = pa.schema([*fields, *pa.schema(columns.ADDED)], schema.metadata)

  def check(self) -> Iterator[int]:
    """Reads the texts, or all columns for JSONL output; yields the size of each chunk.

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
    texts = chunk["text"].to_pylist()
    if "response" not in chunk.column_names:
      return [(text, None) for text in texts]
    return list(zip(texts, chunk["response"].to_pylist(), strict=True))

  def write(self, chunk: pa.Table, scores: columns.Scores, file: BinaryIO) -> None:
    """Writes the rows with their scores in the output's format."""
    if self.schema is None:
      for row, added in zip(chunk.to_pylist(), scores, strict=True):
        file.write(columns.to_jsonl(columns.rename_columns(row) | added))
    else:
      added = pa.Table.from_pylist(scores, pa.schema(columns.ADDED))
      table = pa.Table.from_arrays([*chunk.columns, *added.columns], schema=self.schema)
      pq.write_table(table, file, **files.PARQUET)

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


def _check_columns(schema: pa.Schema, path: Path) -> None:
  names = schema.names
  if "text" not in names:
    raise UserError(f"{path}: text: no such column (others: {', '.join(names)})")
  for name in {"text", "response"} & set(names):
    dtype = schema.field(name).type
    values = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    if values not in (*footer.STRINGS, pa.null()):
      raise UserError(
        f"{path}: {name}: the column has type {dtype}; it should hold strings"
      )

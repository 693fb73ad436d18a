"""Reads rows with texts from CSV or TSV, in chunks that keep the text of each row."""

import codecs
import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.data.records.delimited import SEPARATORS, Row, Table
from ssljax.errors import UserError
from ssljax.inference.rows import columns


class DelimitedReader:
  """Reads a CSV or TSV file. Has the methods and attributes of `JsonlReader`.

  In output of the same format, the text of each row is copied, with its quotes, and
  cells are added to it. In JSONL and Parquet, all cells are strings, and empty cells
  are null.
  """

  def __init__(self, path: Path, layout: columns.Layout, chunk_size: int) -> None:
    self.total: int | None = None
    self._path, self._layout, self._chunk_size = path, layout, chunk_size
    table = self._open()
    if not table.header:
      raise UserError(
        f"{path}: the file is empty; its first line must name the columns"
      )
    where = f"{files.location(path, table.header.number)} (the header)"
    layout.check_names(table.names, where)
    self.renamed = layout.columns_to_rename(table.names, where)
    self._names = [layout.renamed.get(name, name) for name in table.names]
    self._text = table.names.index(layout.text)
    self._response = None
    if layout.response in table.names:
      self._response = table.names.index(layout.response)
    self._copies = layout.output == files.suffix(path)
    self._separator, self._end = table.separator, table.line_end
    if not self._copies:
      self._separator, self._end = SEPARATORS.get(layout.output, ""), "\n"
    self.head = self._head(table)
    self.schema = None
    if layout.output == ".parquet":
      fields = [(name, pa.string()) for name in self._names]
      self.schema = pa.schema([*fields, *layout.added.items()])

  def check(self) -> Iterator[int]:
    """Reads the whole file; yields the number of rows in each chunk.

    Raises:
      UserError: a row can't be read, or has another number of cells than the header.
    """
    total = 0
    for chunk in self.chunks():
      total += len(chunk)
      yield len(chunk)
    self.total = total

  def chunks(self, skip: int = 0) -> Iterator[list[Row]]:
    """Reads rows in chunks, without the first `skip` rows.

    Raises:
      UserError: a row can't be read.
    """
    # Stops at the row that `check` reached, since the file may have grown.
    rows = itertools.islice(self._open().rows(), skip, self.total)
    return files.chunked(rows, self._chunk_size)

  def texts(self, chunk: list[Row]) -> list[tuple[str | None, str | None]]:
    """Returns the pairs of text and response; an empty response is None."""
    texts = [row.cells[self._text] for row in chunk]
    if self._response is None:
      return [(text, None) for text in texts]
    responses = [row.cells[self._response] or None for row in chunk]
    return list(zip(texts, responses, strict=True))

  def part(self, chunk: list[Row], begin: int, end: int) -> list[Row]:
    """Some rows of a chunk."""
    return chunk[begin:end]

  def write(self, chunk: list[Row], values: columns.Values, file: BinaryIO) -> None:
    """Writes the rows with their added columns in the output's format."""
    if self._layout.writes_cells:
      for row, added in zip(chunk, values, strict=True):
        cells = map(columns.to_cell, added.values())
        if self._copies:
          end = columns.to_line(cells, self._separator, self._end)
          file.write(f"{row.raw}{self._separator}".encode() + end)
        else:
          line = [*row.cells, *cells]
          file.write(columns.to_line(line, self._separator, self._end))
      return
    rows = [
      dict(zip(self._names, (cell or None for cell in row.cells), strict=True)) | added
      for row, added in zip(chunk, values, strict=True)
    ]
    if self.schema is None:
      file.writelines(map(columns.to_jsonl, rows))
    else:
      pq.write_table(pa.Table.from_pylist(rows, self.schema), file, **files.PARQUET)

  def _open(self) -> Table:
    return files.open_delimited(self._path, blank_rows=True)

  def _head(self, table: Table) -> bytes:
    """What precedes the rows of CSV or TSV output, in the style of the input."""
    if not self._layout.writes_cells:
      return b""
    if not self._copies:
      return self._layout.encode_header(table.names)
    names = map(str.strip, table.header.cells if table.header else ())
    cells = [self._layout.renamed.get(name, name) for name in names]
    header = columns.to_line(cells, self._separator, "").decode()
    if not self.renamed and table.header:
      header = table.header.raw
    added = columns.to_line(self._layout.added, self._separator, self._end)
    preamble = f"{table.preamble}{self._end}" if table.preamble else ""
    head = f"{preamble}{header}{self._separator}".encode() + added
    return codecs.BOM_UTF8 * _has_bom(self._path) + head


def _has_bom(path: Path) -> bool:
  open_file = gzip.open if path.name.lower().endswith(".gz") else open
  with open_file(path, "rb") as file:
    return file.read(3) == codecs.BOM_UTF8

"""Reads rows with texts from JSONL, in chunks of dicts."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.data.records.delimited import SEPARATORS
from ssljax.errors import UserError
from ssljax.inference.rows import arrow_types, columns

MAX_DEPTH = 200  # nested lists and objects; json and Arrow recurse into them
SURROGATE = re.compile("[\ud800-\udfff]")


class JsonlReader:
  """Reads JSONL from a file.

  Attributes:
    total: number of rows; None until `check` has read the file.
    renamed: input columns that are renamed because the output needs their names.
  """

  def __init__(
    self, source: Path | BinaryIO, layout: columns.Layout, chunk_size: int
  ) -> None:
    """`source` is a path, or an open file: standard input or a copy of it."""
    self.total, self.renamed = None, ()
    self._source, self._layout, self._chunk_size = source, layout, chunk_size
    self._name = str(source) if isinstance(source, Path) else "standard input"
    self._reserved = {*layout.renamed, *layout.renamed.values()}
    self._reserved_used: set[str] = set()
    self._names: dict[str, None] = {}  # columns of CSV output, complete after `check`
    self._inferred = pa.schema([]) if layout.output == ".parquet" else None

  @property
  def schema(self) -> pa.Schema | None:
    """Schema of Parquet output, complete after `check`; None for other output."""
    if self._inferred is None:
      return None
    text = self._renamed_name(self._layout.text)
    base = pa.schema({text: pa.string(), **self._layout.added})
    return arrow_types.unify(self._inferred, base)

  @property
  def head(self) -> bytes:
    """What precedes the rows of the output: the header of CSV, after `check`."""
    return self._layout.encode_header(self._names or [self._layout.text])

  def check(self) -> Iterator[int]:
    """Reads the whole file; yields the number of rows in each chunk.

    Raises:
      UserError: a row can't be read, or the output can't hold it.
    """
    total = 0
    for chunk in files.chunked(self._rows(), self._chunk_size):
      if self._inferred is not None:
        where = f"{chunk[0][0]} and after"
        rows = [self._layout.rename(row) for _, row in chunk]
        self._inferred = arrow_types.extend_schema(self._inferred, rows, where)
      elif self._layout.writes_cells:
        for _, row in chunk:
          self._names.update(dict.fromkeys(row))
      total += len(chunk)
      yield len(chunk)
    self.total = total
    if self._inferred is not None:
      for chunk in self.chunks():
        rows = [self._layout.rename(row) for row in chunk]
        arrow_types.to_table(rows, self.schema, self._name)

  def chunks(self, skip: int = 0) -> Iterator[list[dict]]:
    """Reads rows in chunks, without the first `skip` rows.

    Raises:
      UserError: a row can't be read.
    """
    # Stops at the row that `check` reached, since the file may have grown.
    rows = itertools.islice(self._rows(), skip, self.total)
    return files.chunked((row for _, row in rows), self._chunk_size)

  def texts(self, chunk: list[dict]) -> list[tuple[str | None, str | None]]:
    """Returns the pairs of text and response."""
    text, response = self._layout.text, self._layout.response
    return [(row[text], row.get(response)) for row in chunk]

  def part(self, chunk: list[dict], begin: int, end: int) -> list[dict]:
    """Some rows of a chunk."""
    return chunk[begin:end]

  def write(self, chunk: list[dict], values: columns.Values, file: BinaryIO) -> None:
    """Writes the rows with their added columns in the output's format."""
    pairs = zip(map(self._layout.rename, chunk), values, strict=True)
    rows = [row | added for row, added in pairs]
    if self.schema is not None:
      table = arrow_types.to_table(rows, self.schema, self._name)
      pq.write_table(table, file, **files.PARQUET)
    elif self._layout.writes_cells:
      names = [*map(self._renamed_name, self._names), *self._layout.added]
      separator = SEPARATORS[self._layout.output]
      for row in rows:
        cells = [columns.to_cell(row.get(name)) for name in names]
        file.write(columns.to_line(cells, separator))
    else:
      file.writelines(map(columns.to_jsonl, rows))

  def _renamed_name(self, name: str) -> str:
    return self._layout.renamed.get(name, name)

  def _rows(self) -> Iterator[tuple[str, dict]]:
    """Yields pairs (place, row); error messages name the place."""
    if isinstance(self._source, Path):
      rows = files.read_rows(self._source)
    else:
      if self.total is not None:  # `check` has read the file
        self._source.seek(0)
      rows = files.read_jsonl_stream(self._source, self._name)
    for number, row in rows:
      where = f"{self._name}, line {number}"
      self._check_row(row, where)
      yield where, row

  def _check_row(self, row: dict, where: str) -> None:
    """Checks the form of a row. An empty text is allowed; it gets no score."""
    self._layout.check_names(row, where)
    problem = None
    for name in (self._layout.text, self._layout.response):
      value = row.get(name)
      if value is not None and not isinstance(value, str):
        problem = f"{name}: {files.shorten(value)} should be a string"
    if _is_deeper(row, MAX_DEPTH):
      problem = f"nested deeper than {MAX_DEPTH} levels; make it flatter"
    elif self._layout.output != ".jsonl" and SURROGATE.search(
      json.dumps(row, ensure_ascii=False)
    ):
      kind = "CSV" if self._layout.writes_cells else "Parquet"
      problem = (
        f"an unpaired surrogate, which {kind} can't hold; {arrow_types.USE_JSONL}"
      )
    if problem:
      raise UserError(f"{where}: {problem}")
    reserved = self._reserved.intersection(row)
    if not reserved <= self._reserved_used:
      self._reserved_used |= reserved
      self.renamed = self._layout.columns_to_rename(self._reserved_used, where)


def _is_deeper(value: dict | list, limit: int) -> bool:
  """Whether a value has more than `limit` levels of lists and objects."""
  members = value.values() if isinstance(value, dict) else value
  nested = (member for member in members if isinstance(member, dict | list))
  return limit == 0 or any(_is_deeper(member, limit - 1) for member in nested)

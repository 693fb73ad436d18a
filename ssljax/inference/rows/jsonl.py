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
from ssljax.errors import UserError
from ssljax.inference.rows import arrow_types, columns

MAX_DEPTH = 200  # nested lists and objects; json and Arrow recurse into them
RESERVED = {*columns.RENAMED, *columns.RENAMED.values()}
SURROGATE = re.compile("[\ud800-\udfff]")
BASE = pa.schema({"text": pa.string(), **columns.ADDED})  # columns of every output


class JsonlReader:
  """Reads JSONL from a file.

  Attributes:
    total: number of rows; None until `check` has read the file.
    renamed: input columns that are renamed because the output needs their names.
  """

  def __init__(self, source: Path | BinaryIO, output_suffix: str, chunk_size: int):
    """`source` is a path, or an open file: standard input or a copy of it."""
    self.total, self.renamed = None, ()
    self._source, self._chunk_size = source, chunk_size
    self._name = str(source) if isinstance(source, Path) else "standard input"
    self._reserved_used: set[str] = set()
    self._inferred = pa.schema([]) if output_suffix == ".parquet" else None

  @property
  def schema(self) -> pa.Schema | None:
    """Schema of Parquet output, complete after `check`; None for JSONL output."""
    return None if self._inferred is None else arrow_types.unify(self._inferred, BASE)

  def check(self) -> Iterator[int]:
    """Reads the whole file; yields the number of rows in each chunk.

    Raises:
      UserError: a row can't be read, or the output can't hold it.
    """
    total = 0
    for chunk in files.chunked(self._rows(), self._chunk_size):
      if self._inferred is not None:
        where, rows = f"{chunk[0][0]} and after", [row for _, row in chunk]
        self._inferred = arrow_types.extend_schema(self._inferred, rows, where)
      total += len(chunk)
      yield len(chunk)
    self.total = total
    if self._inferred is not None:
      for rows in self.chunks():
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
    return [(row["text"], row.get("response")) for row in chunk]

  def write(self, chunk: list[dict], scores: columns.Scores, file: BinaryIO) -> None:
    """Writes the rows with their scores in the output's format."""
    rows = [row | added for row, added in zip(chunk, scores, strict=True)]
    if self.schema is None:
      file.writelines(map(columns.to_jsonl, rows))
    else:
      table = arrow_types.to_table(rows, self.schema, self._name)
      pq.write_table(table, file, **files.PARQUET)

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
      yield where, columns.rename_columns(row)

  def _check_row(self, row: dict, where: str) -> None:
    """Checks the form of a row. An empty text is allowed; it gets no score."""
    problem = None
    for name in ("text", "response"):
      value = row.get(name)
      if value is not None and not isinstance(value, str):
        problem = f"{name}: {files.shorten(value)} should be a string"
    if "text" not in row:
      problem = f"text: no such column (others: {', '.join(row)})"
    if _is_deeper(row, MAX_DEPTH):
      problem = f"nested deeper than {MAX_DEPTH} levels; make it flatter"
    elif self._inferred is not None and SURROGATE.search(
      json.dumps(row, ensure_ascii=False)
    ):
      problem = (
        f"an unpaired surrogate, which Parquet can't hold; {arrow_types.USE_JSONL}"
      )
    if problem:
      raise UserError(f"{where}: {problem}")
    reserved = RESERVED.intersection(row)
    if not reserved <= self._reserved_used:
      self._reserved_used |= reserved
      self.renamed = columns.columns_to_rename(self._reserved_used, where)


def _is_deeper(value: dict | list, limit: int) -> bool:
  """Whether a value has more than `limit` levels of lists and objects."""
  members = value.values() if isinstance(value, dict) else value
  nested = (member for member in members if isinstance(member, dict | list))
  return limit == 0 or any(_is_deeper(member, limit - 1) for member in nested)

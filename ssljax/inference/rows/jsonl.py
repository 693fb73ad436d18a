"""Reads rows with texts from JSONL, in chunks of dicts."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.inference.rows import arrow_types, columns

MAX_DEPTH = 200  # levels of lists and objects, into which json and Arrow recurse
RESERVED = {*columns.RENAMED, *columns.RENAMED.values()}


class JsonlReader:
  """Reads JSONL from a file, or from standard input if `path` is None.

  Attributes:
    total: number of rows; None until `check` has read the file.
    renamed: input columns that are renamed because the output needs their names.
    schema: schema of Parquet output, complete after all rows were read; None for JSONL
      output.
  """

  def __init__(self, path: Path | None, output_suffix: str, chunk_size: int):
    self.path, self.total, self.renamed = path, None, ()
    self._name, self._chunk_size = str(path or "standard input"), chunk_size
    self._reserved_used: set[str] = set()
    self._types = None
    if output_suffix == ".parquet":
      base = pa.schema({"text": pa.string(), **columns.ADDED})
      self._types = arrow_types.TypeInference(base)

  @property
  def schema(self) -> pa.Schema | None:
    return self._types and self._types.schema

  def check(self) -> Iterator[int]:
    """Reads the whole file; yields the number of rows in each chunk.

    Raises:
      UserError: a row can't be read, or the output can't hold it.
    """
    total = 0
    for chunk in self.chunks(infer_types=True):
      total += len(chunk)
      yield len(chunk)
    self.total = total
    if self._types and self._types.mixed:
      for chunk in self.chunks():
        arrow_types.to_table(chunk, self.schema, self._name)

  def chunks(self, skip: int = 0, infer_types: bool = False) -> Iterator[list[dict]]:
    """Reads rows, starting after the first `skip`.

    Args:
      infer_types: extend `schema`. Standard input always does.

    Raises:
      UserError: a row can't be read.
    """
    # Stops at the row that `check` reached, since the file may have grown.
    rows = itertools.islice(self._rows(), skip, self.total)
    for numbered in files.chunked(rows, self._chunk_size):
      places = [f"{self._name}, line {number}" for number, _ in numbered]
      for where, (_, row) in zip(places, numbered, strict=True):
        self._check_row(row, where)
      chunk = [columns.rename_columns(row) for _, row in numbered]
      if self._types and (infer_types or not self.path):
        self._types.add(chunk, places)
      yield chunk

  def texts(self, chunk: list[dict]) -> list[tuple[str | None, str | None]]:
    """Returns the pairs of text and response."""
    return [(row["text"], row.get("response")) for row in chunk]

  def write(self, chunk: list[dict], scores: columns.Scores, file: BinaryIO) -> None:
    """Writes the rows with their scores in the output's format.

    Rows of standard input become JSONL in any case; see `jsonl_to_parquet`.
    """
    rows = [row | added for row, added in zip(chunk, scores, strict=True)]
    if self._types and self.path:
      table = arrow_types.to_table(rows, self.schema, self._name)
      pq.write_table(table, file, compression="zstd")
    else:
      file.writelines(map(columns.to_jsonl, rows))

  def _rows(self) -> Iterator[tuple[int, dict]]:
    if self.path:
      return files.read_rows(self.path)
    return files.read_jsonl_stream(open(0, "rb", closefd=False), self._name)

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
    if problem:
      raise UserError(f"{where}: {problem}")
    reserved = RESERVED.intersection(row)
    if not reserved <= self._reserved_used:
      self._reserved_used |= reserved
      self.renamed = columns.columns_to_rename(self._reserved_used, where)


def jsonl_to_parquet(
  path: Path, file: BinaryIO, schema: pa.Schema, chunk_size: int
) -> None:
  """Converts the JSONL that `JsonlReader` wrote, `chunk_size` rows at a time.

  Raises:
    UserError: a value doesn't fit its column.
  """
  rows = (row for _, row in files.read_rows(path))
  with pq.ParquetWriter(file, schema, compression="zstd") as writer:
    for chunk in files.chunked(rows, chunk_size):
      writer.write_table(arrow_types.to_table(chunk, schema, str(path)))


def _is_deeper(value: dict | list, limit: int) -> bool:
  """Whether a value has more than `limit` levels of lists and objects."""
  members = value.values() if isinstance(value, dict) else value
  nested = (member for member in members if isinstance(member, dict | list))
  return limit == 0 or any(_is_deeper(member, limit - 1) for member in nested)

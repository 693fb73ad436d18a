"""Reads rows with texts from JSONL, in chunks of dicts."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.inference.rows import arrow_types, columns

MAX_DEPTH = 200  # levels of lists and objects; json and Arrow recurse into them
NESTED = (dict, list)
RESERVED = {*columns.RENAMED, *columns.RENAMED.values()}


class JsonlReader:
  """Reads JSONL from a file, or from standard input if `path` is None.

  Attributes:
    total: number of rows; None until `check` has read the file.
    renamed: input columns that are renamed because the output needs their names.
    schema: of Parquet output, complete once all rows were read; None for JSONL output.
  """

  def __init__(self, path: Path | None, output_suffix: str, chunk_size: int):
    self.path, self.total, self.renamed = path, None, frozenset()
    self._chunk_size = chunk_size
    self._reserved_used: set[str] = set()
    self._types = None
    if output_suffix == ".parquet":
      base = pa.schema({"text": pa.string(), **columns.ADDED})
      self._types = arrow_types.TypeInference(base)

  @property
  def schema(self) -> pa.Schema | None:
    return self._types and self._types.schema

  def check(self) -> Iterator[int]:
    """Reads the whole file.

    Yields:
      The number of rows in each chunk.

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
        arrow_types.to_table(chunk, self.schema, str(self.path))

  def chunks(self, skip: int = 0, infer_types: bool = False) -> Iterator[list[dict]]:
    """Reads rows, starting after the first `skip`.

    Args:
      infer_types: extends `schema`; always done for standard input.

    Raises:
      UserError: a row can't be read.
    """
    # Up to the row that `check` reached, in case the file has grown since.
    rows = itertools.islice(self._rows(), skip, self.total)
    for numbered in files.chunked(rows, self._chunk_size):
      for number, row in numbered:
        self._check_row(row, number)
      chunk = [columns.rename_columns(row) for _, row in numbered]
      if self._types and (infer_types or not self.path):
        where = lambda i, numbered=numbered: self._where(numbered[i][0])
        self._types.add(chunk, where)
      yield chunk

  def texts(self, chunk: list[dict]) -> list[tuple[str | None, str | None]]:
    """Returns the pairs of text and response."""
    return [(row["text"], row.get("response")) for row in chunk]

  def write(
    self, chunk: list[dict], scores: columns.ScoreColumns, file: BinaryIO
  ) -> None:
    """Writes the rows in the output's format.

    Rows of standard input are written as JSONL first; see `jsonl_to_parquet`.
    """
    rows = columns.add_scores(chunk, scores)
    if self._types and self.path:
      table = arrow_types.to_table(rows, self.schema, str(self.path))
      pq.write_table(table, file, compression="zstd")
    else:
      file.writelines(map(columns.to_jsonl, rows))

  def _rows(self) -> Iterator[tuple[int, dict]]:
    if self.path:
      return files.read_rows(self.path)
    return files.read_jsonl_stream(open(0, "rb", closefd=False), "standard input")

  def _where(self, number: int) -> str:
    if self.path:
      return files.location(self.path, number)
    return f"standard input, line {number}"

  def _check_row(self, row: dict, number: int) -> None:
    """Refuses rows of the wrong form. An empty text is allowed; it gets no score."""
    problem = None
    for name in ("text", "response"):
      value = row.get(name)
      if value is not None and not isinstance(value, str):
        problem = f"{name}: {files.shorten(value)} should be a string"
    if "text" not in row:
      problem = f"text: no such column (others: {', '.join(row)})"
    if _is_too_deep(row):
      problem = f"nested deeper than {MAX_DEPTH} levels; make it flatter"
    if problem:
      raise UserError(f"{self._where(number)}: {problem}")
    reserved = RESERVED.intersection(row)
    if not reserved <= self._reserved_used:
      self._reserved_used |= reserved
      self.renamed = columns.columns_to_rename(self._reserved_used, self._where(number))


def jsonl_to_parquet(
  path: Path, file: BinaryIO, schema: pa.Schema, chunk_size: int
) -> None:
  """Converts JSONL written by `JsonlReader`, `chunk_size` rows at a time.

  Raises:
    UserError: a value doesn't fit its column.
  """
  rows = (row for _, row in files.read_rows(path))
  with pq.ParquetWriter(file, schema, compression="zstd") as writer:
    for chunk in files.chunked(rows, chunk_size):
      writer.write_table(arrow_types.to_table(chunk, schema, str(path)))


def _is_too_deep(row: dict[str, Any]) -> bool:
  level = [value for value in row.values() if isinstance(value, NESTED)]
  for _ in range(1, MAX_DEPTH):
    if not level:
      return False
    members = (node.values() if isinstance(node, dict) else node for node in level)
    level = [value for nodes in members for value in nodes if isinstance(value, NESTED)]
  return bool(level)

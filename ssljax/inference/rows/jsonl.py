"""Rows of JSONL with texts, in pieces: lists of dicts."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.inference.rows import arrow_types, columns

DEPTH = 200  # levels of lists and objects in a row; json and Arrow recurse into them
NESTED = (dict, list)
WATCHED = {*columns.OWN, *columns.OWN.values()}


class JsonRows:
  """Rows of JSONL; of standard input where `path` is None.

  Attributes:
    total: number of rows; None before all was checked.
    renamed: names of added.ADDED that rows have themselves.
    schema: of Parquet output, whole when all rows were read; None for JSONL.
  """

  def __init__(self, path: Path | None, output: str, size: int):
    self.path, self.total, self.renamed = path, None, frozenset()
    self._size = size
    self._names: set[str] = set()
    self._types = None
    if output == ".parquet":
      self._types = arrow_types.Types(pa.schema({"text": pa.string(), **columns.ADDED}))

  @property
  def schema(self) -> pa.Schema | None:
    return self._types and self._types.schema

  def check(self) -> Iterator[int]:
    """Reads all of a file.

    Yields:
      How many rows were read since.

    Raises:
      UserError: a row that cannot be read, or that the output cannot hold.
    """
    total = 0
    for piece in self.pieces(learn=True):
      total += len(piece)
      yield len(piece)
    self.total = total
    if self._types and self._types.mixed:
      for piece in self.pieces():
        arrow_types.table(piece, self.schema, str(self.path))

  def pieces(self, skip: int = 0, learn: bool = False) -> Iterator[list[dict]]:
    """Rows from row `skip` on; `learn` takes in their types, too.

    Raises:
      UserError: a row that cannot be read.
    """
    # No further than `check` came, should a file grow meanwhile.
    found = itertools.islice(self._rows(), skip, self.total)
    while some := list(itertools.islice(found, self._size)):
      for number, row in some:
        self._check(row, number)
      piece = [columns.renamed(row) for _, row in some]
      if self._types and (learn or not self.path):
        self._types.add(piece, lambda i, some=some: self._place(some[i][0]))
      yield piece

  def texts(self, piece: list[dict]) -> list[tuple[str | None, str | None]]:
    return [(row["text"], row.get("response")) for row in piece]

  def write(self, piece: list[dict], scores: columns.Scores, file: BinaryIO) -> None:
    """What came from standard input is JSONL as yet: see `to_parquet`."""
    rows = columns.with_scores(piece, scores)
    if self._types and self.path:
      table = arrow_types.table(rows, self.schema, str(self.path))
      pq.write_table(table, file, compression="zstd")
    else:
      file.writelines(map(columns.line, rows))

  def _rows(self) -> Iterator[tuple[int, dict]]:
    if self.path:
      return files.rows(self.path)
    return files.stream(open(0, "rb", closefd=False), "standard input")

  def _place(self, number: int) -> str:
    if self.path:
      return files.place(self.path, number)
    return f"standard input, line {number}"

  def _check(self, row: dict, number: int) -> None:
    """A row that cannot be scored at all is a mistake; one without a text is not."""
    wrong = None
    for name in ("text", "response"):
      value = row.get(name)
      if value is not None and not isinstance(value, str):
        wrong = f"{name}: {files.short(value)} should be a string"
    if "text" not in row:
      wrong = f"text: no such column (others: {', '.join(row)})"
    if _is_deep(row):
      wrong = f"nested deeper than {DEPTH} levels; make it flatter"
    if wrong:
      raise UserError(f"{self._place(number)}: {wrong}")
    own = WATCHED.intersection(row)
    if not own <= self._names:
      self._names |= own
      self.renamed = columns.taken(self._names, self._place(number))


def to_parquet(path: Path, file: BinaryIO, schema: pa.Schema, size: int) -> None:
  """Makes Parquet, `size` rows at a time, of JSONL that `JsonRows` wrote.

  Raises:
    UserError: a value does not fit into its column.
  """
  rows = (row for _, row in files.rows(path))
  with pq.ParquetWriter(file, schema, compression="zstd") as writer:
    while some := list(itertools.islice(rows, size)):
      writer.write_table(arrow_types.table(some, schema, str(path)))


def _is_deep(row: dict[str, Any]) -> bool:
  level = [value for value in row.values() if isinstance(value, NESTED)]
  for _ in range(1, DEPTH):
    if not level:
      return False
    inner = (some.values() if isinstance(some, dict) else some for some in level)
    level = [value for some in inner for value in some if isinstance(value, NESTED)]
  return bool(level)

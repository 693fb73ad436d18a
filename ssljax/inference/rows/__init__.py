"""Reads rows of texts from JSONL or Parquet in chunks, and writes them with scores.

Rows come out unchanged, with three more columns. A reader checks its whole file first
(`check`), so that a row that can't be read or written is reported before hours of
scoring and not after them.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.inference.rows.jsonl import JsonlReader
from ssljax.inference.rows.parquet import ParquetReader

RowReader = JsonlReader | ParquetReader


def open_reader(path: Path | None, output_suffix: str, chunk_size: int) -> RowReader:
  """Opens a file, or standard input.

  Args:
    path: None for standard input.
    output_suffix: suffix of the output file, ".jsonl" or ".parquet".
    chunk_size: rows per chunk.

  Raises:
    UserError: the file doesn't exist, or is not a Parquet file with a text column.
  """
  if path and files.check_format(path) == ".parquet":
    return ParquetReader(path, output_suffix, chunk_size)
  return JsonlReader(path, output_suffix, chunk_size)


def join_parts(parts: Iterable[Path], file: BinaryIO, schema: pa.Schema | None) -> None:
  """Joins files written by a reader into one; `schema` is the reader's."""
  if schema is None:
    for part in parts:
      with open(part, "rb") as lines:
        shutil.copyfileobj(lines, file)
    return
  with pq.ParquetWriter(file, schema, compression="zstd") as writer:
    for part in parts:
      writer.write_table(files.open_parquet(part).read())

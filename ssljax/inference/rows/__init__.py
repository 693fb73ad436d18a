"""Reads rows of texts from JSONL or Parquet in chunks, and writes them with scores.

The rows are written unchanged, with three more columns. A reader's `check` reads the
whole file first, so an invalid row is reported before hours of scoring, not after.
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
  """Opens a file, or standard input if `path` is None.

  Args:
    output_suffix: ".jsonl" or ".parquet".
    chunk_size: rows per chunk.

  Raises:
    UserError: the file doesn't exist, or is not a Parquet file with a text column.
  """
  if path and files.check_format(path) == ".parquet":
    return ParquetReader(path, output_suffix, chunk_size)
  return JsonlReader(path, output_suffix, chunk_size)


def join_parts(parts: Iterable[Path], file: BinaryIO, schema: pa.Schema | None) -> None:
  """Joins the files that a reader with this `schema` wrote into one."""
  if schema is None:
    for part in parts:
      with open(part, "rb") as lines:
        shutil.copyfileobj(lines, file)
    return
  with pq.ParquetWriter(file, schema, compression="zstd") as writer:
    for part in parts:
      writer.write_table(files.open_parquet(part).read())

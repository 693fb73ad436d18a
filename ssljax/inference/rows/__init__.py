"""Rows of texts: read from JSONL or Parquet in pieces, written with their scores.

The same rows come out, with three columns more. A source looks through its whole file
first (`check`), so that what cannot be read or written is met before hours of work and
not after them.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.inference.rows.jsonl import JsonRows
from ssljax.inference.rows.parquet import ParquetRows

Source = JsonRows | ParquetRows


def source(path: Path | None, output: str, size: int) -> Source:
  """The rows of a file, or of standard input, in pieces.

  Args:
    path: None is standard input.
    output: suffix of the file that is to be written.
    size: rows of a piece.

  Raises:
    UserError: no such file, or Parquet that is none or has no column of texts.
  """
  if path and files.check(path) == ".parquet":
    return ParquetRows(path, output, size)
  return JsonRows(path, output, size)


def join(parts: Iterable[Path], file: BinaryIO, schema: pa.Schema | None) -> None:
  """Makes one file of parts that a source wrote; `schema` is the source's."""
  if schema is None:
    for part in parts:
      with open(part, "rb") as lines:
        shutil.copyfileobj(lines, file)
    return
  with pq.ParquetWriter(file, schema, compression="zstd") as writer:
    for part in parts:
      writer.write_table(files.parquet(part).read())

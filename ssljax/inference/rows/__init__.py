"""Reads rows of texts in chunks, and writes them with more columns, such as scores.

Files are JSONL, CSV, TSV or Parquet, and the output may have another of these formats.
The rows are written unchanged. A reader's `check` reads the whole file first, so that
an invalid row is reported before hours of scoring.
"""

from pathlib import Path

from ssljax.data.records import files
from ssljax.inference.rows.columns import Layout
from ssljax.inference.rows.delimited_rows import DelimitedReader
from ssljax.inference.rows.jsonl import JsonlReader
from ssljax.inference.rows.parquet import ParquetReader

FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")
RowReader = JsonlReader | DelimitedReader | ParquetReader


def open_rows(path: Path, layout: Layout, chunk_size: int) -> RowReader:
  """Opens a file whose suffix is in FORMATS, perhaps with .gz.

  Raises:
    UserError: the file can't be read, has no text, or has columns that can't be
      renamed.
  """
  suffix = files.suffix(path)
  if suffix == ".jsonl":
    return JsonlReader(path, layout, chunk_size)
  if suffix == ".parquet":
    return ParquetReader(path, layout, chunk_size)
  return DelimitedReader(path, layout, chunk_size)

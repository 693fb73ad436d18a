"""Reads rows of texts from JSONL or Parquet in chunks, and writes them with scores.

The rows are written unchanged, with three more columns. A reader's `check` reads the
whole file first, so that an invalid row is reported before hours of scoring.
"""

from ssljax.inference.rows.jsonl import JsonlReader
from ssljax.inference.rows.parquet import ParquetReader

RowReader = JsonlReader | ParquetReader

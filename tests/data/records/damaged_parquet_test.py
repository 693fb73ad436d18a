"""Damaged Parquet files: every reader refuses them or returns the right rows."""

import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.augment import storage
from ssljax.data.records import files
from ssljax.data.records.read import read_file
from ssljax.data.records.records import from_rows, write_parquet
from ssljax.errors import UserError
from ssljax.inference.rows.columns import Layout
from ssljax.inference.rows.parquet import ParquetReader
from tests.data.records.flips import flip, losing_flips

VIEW = {"kind": "eda", "text": "other words", "response": None, "origin": "eda"}
ROWS = [
  {"id": f"a-{i}", "text": f"text {i}", "response": "yes", "label": i % 2}
  | {"source": "here", "label_name": "no", "views": [VIEW]}
  for i in range(30)
]

JSONL = Layout(".jsonl")


def rows_of_tables(tables):
  return [row for table in tables for row in table.to_pylist()]


READERS = {
  "read_rows": lambda path: [row for _, row in files.read_rows(path)],
  "read_file": lambda path: read_file(path).table.to_pylist(),
  "read_tables": lambda path: rows_of_tables(storage.read_tables(path, 8)),
  "predict": lambda path: rows_of_tables(ParquetReader(path, JSONL, 8).chunks()),
}


@pytest.fixture
def path(tmp_path):
  return tmp_path / "part-0.parquet"


def test_no_reader_ends_early(path):
  pq.write_table(pa.table({"text": ["fine"] * 20}), path, row_group_size=10)
  content = path.read_bytes()
  bits = list(itertools.islice(losing_flips(path, content), 6))
  assert len(bits) == 6
  for bit in bits:
    flip(path, content, bit)
    for name, read in READERS.items():
      with pytest.raises(UserError, match="cannot be read"):
        pytest.fail(f"{name} read {len(read(path))} rows after a flip of bit {bit}")


@pytest.mark.parametrize("reader", READERS)
def test_a_flipped_bit_is_never_read_as_other_rows(path, reader):
  write_parquet(from_rows(ROWS), path)
  read, content, refused = READERS[reader], path.read_bytes(), 0
  rows = read(path)
  for byte in range(0, len(content), 9):
    bit = 8 * byte + byte % 8
    flip(path, content, bit)
    try:
      assert read(path) == rows, bit
    except UserError:
      refused += 1
  assert refused > len(content) // 20


@pytest.mark.slow
def test_other_columns_are_not_read_as_bytes(path):
  """Single bits of the footer say that a column is text, or that it holds numbers."""
  write_parquet(from_rows(ROWS), path)
  content, refused = path.read_bytes(), 0
  footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
  for bit in range(8 * footer, 8 * len(content), 3):
    flip(path, content, bit)
    try:
      schema = pq.read_schema(path)
    except (*files.NOT_PYTHON, OSError):
      continue
    if pa.binary() in schema.types:
      refused += 1
      with pytest.raises(UserError, match="lists of columns differ"):
        files.open_parquet(path)
  assert refused


def test_truncated_parquet(path):
  pq.write_table(pa.table({"text": [f"text {i}" for i in range(1000)]}), path)
  path.write_bytes(path.read_bytes()[:500])
  for read in READERS.values():
    with pytest.raises(UserError, match="cannot be read"):
      read(path)


def test_corrupt_pages_of_parquet(path):
  texts = [f"text {i}" for i in range(1000)]
  pq.write_table(pa.table({"text": texts}), path, compression="gzip")
  content = bytearray(path.read_bytes())
  content[40:400] = bytes(360)
  path.write_bytes(content)
  for read in READERS.values():
    with pytest.raises(UserError, match="cannot be read"):
      read(path)

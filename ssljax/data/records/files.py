"""Reads rows of JSONL, CSV, TSV and Parquet files, with the line of each row.

JSON and CSV are read with the standard library. pyarrow's readers are faster, but their
errors name neither the line nor the value.
"""

import codecs
import contextlib
import gzip
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import delimited, footer
from ssljax.errors import UserError

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")  # all but the last also .gz
BATCH = 8192  # number of rows held as Python objects at a time
NOT_PYTHON = (ValueError, OverflowError, pa.ArrowException)  # what `as_py` raises
# How Parquet files are written. Without checksums, a flipped bit can be read as
# another text. Readers verify them; files without checksums can be read as well.
PARQUET = {"compression": "zstd", "write_page_checksum": True}


def stem(path: Path) -> str:
  """The file's name without suffixes: `train` for `a/train.jsonl.gz`."""
  name = re.sub(r"\.gz$", "", path.name, flags=re.IGNORECASE)
  return name.removesuffix(Path(name).suffix)


def suffix(path: Path) -> str:
  """`.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet`; "" for any other file."""
  name = path.name.lower()
  unzipped = name.removesuffix(".gz")
  last = Path(unzipped).suffix
  if last not in SUFFIXES or (last == ".parquet" and unzipped != name):
    return ""
  return last


def location(path: Path, number: int) -> str:
  """`file, line 3` (for Parquet `file, row 3`), for error messages."""
  unit = "line" if suffix(path) in SUFFIXES[:-1] else "row"
  return f"{path}, {unit} {number}"


def shorten(value: object, limit: int = 40) -> str:
  """A truncated `repr`, which keeps error messages short."""
  text = repr(value[: limit + 1] if isinstance(value, str) else value)
  return text if len(text) <= limit + 2 else text[:limit] + "…"


def check_format(path: Path) -> str:
  """Returns a file's suffix; raises UserError if the file is missing or unsupported."""
  if path.is_dir():
    raise UserError(f"{path} is a folder; give a file")
  if not path.exists():
    raise UserError(f"{path}: no such file; check the path")
  if not suffix(path):
    raise UserError(
      f"{path}: unknown format; the name must end in .jsonl, .json, .csv, .tsv (all "
      "also with .gz) or .parquet"
    )
  return suffix(path)


def read_rows(path: Path) -> Iterator[tuple[int, dict]]:
  """Reads rows as dicts that map columns to values; CSV values are strings.

  Yields:
    (number, row): the number is the line where the row starts. In Parquet files, it is
    the number of the row. Both start at 1.

  Raises:
    UserError: the file is missing, truncated, of unknown format or not UTF-8, or a line
      cannot be parsed. The error names the file and the line.
  """
  format_ = check_format(path)
  if format_ == ".parquet":
    return _parquet_rows(path)
  if format_ in delimited.SEPARATORS:
    return _delimited_rows(path)
  return _json_rows(_lines(path), partial(location, path))


def count_rows(path: Path) -> int:
  """The number of rows; raises UserError as `read_rows` does."""
  if check_format(path) == ".parquet":
    return open_parquet(path).metadata.num_rows
  return sum(1 for _ in read_rows(path))


def read_jsonl_stream(file: BinaryIO, name: str) -> Iterator[tuple[int, dict]]:
  """Like `read_rows`, for an open JSONL file such as stdin; errors call it `name`."""
  where = lambda number: f"{name}, line {number}"
  try:
    yield from _json_rows(_decode_lines(file, where), where)
  except OSError as error:
    raise UserError(f"{name}: cannot be read ({error})") from error


def chunked(items: Iterable, size: int) -> Iterator[list]:
  """Splits an iterable into lists of `size` items; the last may be shorter."""
  items = iter(items)
  while chunk := list(itertools.islice(items, size)):
    yield chunk


def open_parquet(path: Path) -> pq.ParquetFile:
  """Opens a Parquet file; raises UserError if it cannot be read as Parquet."""
  try:
    # With the default settings, `iter_batches` buffers the whole file in memory.
    file = pq.ParquetFile(
      path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
    )
    footer.check(file)
  except (pa.ArrowException, OSError, ValueError) as error:
    raise unreadable(path, error) from error
  footer.check_unique_names(path, file.schema_arrow, "columns")
  return file


def read_parquet(
  path: Path, file: pq.ParquetFile, columns: list[str] | None = None
) -> pa.Table:
  """Reads an open Parquet file whole; raises UserError if it is damaged."""
  try:
    table = file.read(columns)
  except (pa.ArrowException, OSError) as error:
    raise unreadable(path, error) from error
  _check_count(path, table.num_rows, file.metadata.num_rows)
  return table


def read_batches(
  path: Path,
  file: pq.ParquetFile,
  size: int,
  groups: Sequence[int] | None = None,
  **options: Any,
) -> Iterator[pa.RecordBatch]:
  """Yields the rows of an open Parquet file in batches of at most `size` rows.

  Args:
    groups: the row groups to read; by default all.
    options: further options of `ParquetFile.iter_batches`.

  Raises:
    UserError: the file is damaged. Some damage shows only after the last batch.
  """
  groups = range(file.num_row_groups) if groups is None else groups
  expected, count = sum(file.metadata.row_group(i).num_rows for i in groups), 0
  try:
    for batch in file.iter_batches(size, row_groups=list(groups), **options):
      count += len(batch)
      yield batch
  except (pa.ArrowException, OSError) as error:
    raise unreadable(path, error) from error
  _check_count(path, count, expected)


def _check_count(path: Path, count: int, expected: int) -> None:
  """Checks how many rows were read: pyarrow stops where a damaged column ends."""
  if count != expected:
    raise unreadable(path, ValueError(f"{count} of {expected} rows can be read"))


def unreadable(path: Path, error: Exception) -> UserError:
  reason = (str(error).splitlines() or [type(error).__name__])[0]
  return UserError(
    f"{path}: cannot be read; the file is damaged or truncated, or its format doesn't "
    f"match its name ({shorten(reason, 90)}); copy or prepare it again"
  )


def open_delimited(path: Path, blank_rows: bool = False) -> delimited.Table:
  """Opens a CSV or TSV file and reads its header; see `delimited.Table`."""
  return delimited.Table(
    _lines(path), partial(location, path), suffix(path), blank_rows
  )


def _delimited_rows(path: Path) -> Iterator[tuple[int, dict]]:
  table = open_delimited(path)
  for row in table.rows():
    if any(row.cells):  # a spreadsheet may save empty rows after the last one
      yield row.number, dict(zip(table.names, row.cells, strict=True))


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict]]:
  number = 1
  for batch in read_batches(path, open_parquet(path), BATCH):
    yield from enumerate(to_rows(path, batch, number), number)
    number += len(batch)


def to_rows(path: Path, batch: pa.RecordBatch | pa.Table, first: int) -> list[dict]:
  """Converts rows to dicts; `first` is the number of the first of them.

  Raises:
    UserError: Python can't hold a value, such as a date after the year 9999.
  """
  with contextlib.suppress(*NOT_PYTHON):
    return batch.to_pylist()
  for i, name in itertools.product(range(len(batch)), batch.column_names):
    try:
      batch[name][i].as_py()
    except NOT_PYTHON as error:
      where = f"{location(path, first + i)}: {name}"
      raise UserError(f"{where} cannot be read ({error}); correct it") from error
  raise AssertionError(f"{path}: all values can be read one by one")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
  """Yields (number, line); the lines keep their line ends."""
  open_file = gzip.open if path.name.lower().endswith(".gz") else open
  try:
    with open_file(path, "rb") as file:
      yield from _decode_lines(file, partial(location, path))
  except (OSError, EOFError, zlib.error) as error:
    raise unreadable(path, error) from error


def _decode_lines(
  file: Iterable[bytes], where: Callable[[int], str]
) -> Iterator[tuple[int, str]]:
  """Numbers and decodes lines, so that an error can name the line."""
  for number, line in enumerate(file, 1):
    try:
      # Excel writes a byte order mark, which isn't part of the first column's name.
      yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
      if number == 1 and line[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise UserError(
          f'{where(1)}: the file is UTF-16, as Excel\'s "Unicode Text"; save it as '
          '"CSV UTF-8"'
        ) from error
      bad = line[error.start : error.start + 1].hex()
      raise UserError(
        f"{where(number)}: not valid UTF-8 (byte 0x{bad} at position "
        f"{error.start + 1}); save the file as UTF-8"
      ) from error


def _json_rows(
  lines: Iterable[tuple[int, str]], where: Callable[[int], str]
) -> Iterator[tuple[int, dict]]:
  for number, line in lines:
    if not line.strip():
      continue
    try:
      row = json.loads(line, object_pairs_hook=_unique_keys)
    except UserError as error:
      raise UserError(f"{where(number)}: {error}") from error
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
      raise UserError(
        f"{where(number)}: not valid JSON ({getattr(error, 'msg', error)}): "
        f"{shorten(line.strip())}; write one JSON object per line"
      ) from error
    if not isinstance(row, dict):
      raise UserError(
        f"{where(number)}: not a JSON object: {shorten(line.strip())}; write one JSON "
        'object per line, such as {"text": "…", "label": 0}'
      )
    yield number, row


def _unique_keys(pairs: list[tuple[str, object]]) -> dict:
  """The object; UserError if a key is there twice, as only one value would count."""
  result = dict(pairs)
  if len(result) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise UserError(f"the row has the key {shorten(twice)} twice; remove one of them")
  return result

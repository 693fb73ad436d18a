"""Rows of JSONL, CSV and Parquet files, each with the place it came from.

JSON and CSV go through the standard library: pyarrow's readers are faster but name
neither the line nor the value that they could not read.
"""

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.errors import UserError

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")  # the first three also with .gz
BATCH = 8192  # rows held as Python objects at once


def stem(path: Path) -> str:
  """The file's name without its suffixes: `a/train.jsonl.gz` is `train`."""
  name = path.name.removesuffix(".gz")
  return name.removesuffix(Path(name).suffix)


def suffix(path: Path) -> str:
  """`.jsonl`, `.json`, `.csv` or `.parquet`; "" for any other file."""
  name = path.name.lower()
  plain = name.removesuffix(".gz")
  found = Path(plain).suffix
  if found not in SUFFIXES or (found == ".parquet" and plain != name):
    return ""
  return found


def place(path: Path, number: int) -> str:
  """`file, line 3` (of Parquet `file, row 3`), as every error names it."""
  counted = "line" if suffix(path) in (".jsonl", ".json", ".csv") else "row"
  return f"{path}, {counted} {number}"


def short(value: object, limit: int = 40) -> str:
  """`repr`, cut so that an error stays one readable line."""
  text = repr(value[: limit + 1] if isinstance(value, str) else value)
  return text if len(text) <= limit + 2 else text[:limit] + "…"


def check(path: Path) -> str:
  """The suffix of a readable file, else UserError."""
  if path.is_dir():
    raise UserError(f"{path} is a folder where a file is expected")
  if not path.exists():
    raise UserError(f"{path}: no such file; check the path")
  found = suffix(path)
  if not found:
    raise UserError(
      f"{path}: unknown format; rename it to end in one of .jsonl, .jsonl.gz, .json, "
      ".csv, .csv.gz, .parquet"
    )
  return found


def rows(path: Path) -> Iterator[tuple[int, dict]]:
  """Rows as dicts from column to value (of CSV: str).

  Yields:
    (number, row): the line that the row begins on, 1-based; of Parquet the row.

  Raises:
    UserError: the file is missing, truncated, of unknown format, not UTF-8, or a line
      cannot be parsed; names file and line.
  """
  kind = check(path)
  if kind == ".parquet":
    return _parquet_rows(path)
  if kind == ".csv":
    return _csv_rows(path)
  return _json_rows(_lines(path), partial(place, path))


def stream(file: BinaryIO, name: str) -> Iterator[tuple[int, dict]]:
  """Rows of JSONL that has no path, such as standard input; `name` stands in errors.

  Yields, raises: as `rows`.
  """
  where = lambda number: f"{name}, line {number}"
  try:
    yield from _json_rows(_decoded(file, where), where)
  except OSError as error:
    raise UserError(f"{name}: cannot be read ({error})") from error


def parquet(path: Path) -> pq.ParquetFile:
  """An opened Parquet file; UserError where it is none."""
  try:
    # By default pyarrow holds all that `iter_batches` will need, the whole file.
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
  except (pa.ArrowException, OSError) as error:
    raise broken(path, error) from error


def broken(path: Path, error: Exception) -> UserError:
  reason = (str(error).splitlines() or [type(error).__name__])[0]
  return UserError(
    f"{path}: cannot be read, truncated or not what its name says ({short(reason, 90)})"
    "; copy or prepare the file again"
  )


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict]]:
  file = parquet(path)
  number = 0
  try:
    for batch in file.iter_batches(batch_size=BATCH):
      for row in batch.to_pylist():
        number += 1
        yield number, row
  except (pa.ArrowException, OSError) as error:
    raise broken(path, error) from error
  except UnicodeDecodeError as error:
    raise UserError(
      f"{path}, after row {number}: not valid UTF-8; save the file as UTF-8"
    ) from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
  """Numbered lines with their line ends, decoded one by one to name the bad one."""
  opened = gzip.open if path.name.lower().endswith(".gz") else open
  try:
    with opened(path, "rb") as file:
      yield from _decoded(file, partial(place, path))
  except (OSError, EOFError, zlib.error) as error:
    raise broken(path, error) from error


def _decoded(
  file: Iterable[bytes], where: Callable[[int], str]
) -> Iterator[tuple[int, str]]:
  for number, line in enumerate(file, 1):
    try:
      # A byte order mark, as Excel writes it, is no part of the first name.
      yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
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
      row = json.loads(line)
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
      raise UserError(
        f"{where(number)}: not valid JSON ({getattr(error, 'msg', error)}): "
        f"{short(line.strip())}; write one JSON object a line"
      ) from error
    if not isinstance(row, dict):
      raise UserError(
        f"{where(number)}: not a JSON object: {short(line.strip())}; write one "
        'JSON object a line, such as {"text": "…", "label": 0}'
      )
    yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict]]:
  csv.field_size_limit(sys.maxsize)  # the default refuses texts above 128 KiB
  reader = csv.reader((line for _, line in _lines(path)), strict=True)
  header, begin = None, 1
  try:
    for cells in reader:
      if header is None:
        header = _header(path, cells)
      elif cells:
        if len(cells) != len(header):
          raise UserError(
            f"{place(path, begin)}: {len(cells)} cells, but the header has "
            f"{len(header)} columns; quote cells that hold commas or line breaks"
          )
        yield begin, dict(zip(header, cells, strict=True))
      begin = reader.line_num + 1
  except csv.Error as error:
    raise UserError(
      f'{place(path, begin)}: not valid CSV ({error}); quote cells with " and double '
      "the quotes inside them"
    ) from error


def _header(path: Path, cells: list[str]) -> list[str]:
  names = [cell.strip() for cell in cells]
  for mark, word in ((";", "semicolons"), ("\t", "tabs")):
    if len(names) == 1 and mark in names[0]:
      raise UserError(
        f"{place(path, 1)}: the columns are parted by {word}; save the file with commas"
      )
  for name in names:
    if names.count(name) > 1:
      raise UserError(
        f"{place(path, 1)}: column {name!r} stands twice in the header; rename one"
      )
  return names

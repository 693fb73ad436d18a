"""Writes a table for labelling by hand: CSV, TSV, JSONL or Parquet, by its name.

CSV and TSV begin with a byte order mark, without which Excel misreads other scripts.
In them, `selected.protect` keeps spreadsheets from changing a text.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import delimited, files
from ssljax.data.records.selected import CELL_LIMIT, CHECK, check_value, protect
from ssljax.errors import UserError
from ssljax.runtime.atomic import atomic_file, atomic_path, cannot_write

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
NUMBERS = ("score",)
FREE = ("label_name", *NUMBERS)  # cells that needn't be protected


def check_output(flag: str, name: str) -> Path:
  """The path of a table to write; UserError for another suffix, or if it exists."""
  path = Path(name).expanduser()
  if files.suffix(path) not in FORMATS or name.lower().endswith(".gz"):
    raise UserError(f"{flag}={name}: give a name that ends in {', '.join(FORMATS)}")
  if path.exists() or path.is_symlink():
    raise UserError(
      f"{flag}={name} exists, perhaps with labels; name another file, or remove it"
    )
  return path


def write_table(flag: str, path: Path, columns: Mapping[str, Sequence]) -> list[str]:
  """Writes columns atomically; returns notes for the log.

  Args:
    columns: by name; `text` and `response` are needed. "score" holds numbers, all other
      columns text or None.
  """
  try:
    if files.suffix(path) in delimited.SEPARATORS:
      return _write_cells(path, columns)
    if files.suffix(path) == ".jsonl":
      rows = _rows(columns)
      with atomic_file(path) as file:
        for row in rows:
          file.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())
    else:
      type_ = lambda name: pa.float64() if name in NUMBERS else pa.large_string()
      arrays = {n: pa.array(values, type_(n)) for n, values in columns.items()}
      with atomic_path(path) as temporary:
        pq.write_table(pa.table(arrays), temporary, **files.PARQUET)
  except OSError as error:
    raise cannot_write(f"{flag}={path}", error, "name another file") from error
  return []


def _rows(columns: Mapping[str, Sequence]) -> list[dict]:
  return [
    dict(zip(columns, values, strict=True))
    for values in zip(*columns.values(), strict=True)
  ]


def _write_cells(path: Path, columns: Mapping[str, Sequence]) -> list[str]:
  buffer = io.StringIO(newline="")
  delimiter = delimited.SEPARATORS[files.suffix(path)]
  writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\r\n")
  writer.writerow([*columns, CHECK])
  longest = 0
  for row in _rows(columns):
    cells = [
      "" if value is None else value if name in FREE else protect(value)
      for name, value in row.items()
    ]
    cells = [f"{cell:.4f}" if isinstance(cell, float) else cell for cell in cells]
    writer.writerow([*cells, check_value(row["id"], row["text"], row["response"])])
    longest = max(longest, len(row["text"]), len(row["response"] or ""))
  with atomic_file(path) as file:
    file.write(b"\xef\xbb\xbf" + buffer.getvalue().encode("utf-8"))
  if longest > CELL_LIMIT:
    return [
      f"warning: a text has {longest} characters, but a cell of Excel holds "
      f"{CELL_LIMIT}; use another program, or write .jsonl (prepare refuses a text "
      "that was cut)"
    ]
  return []

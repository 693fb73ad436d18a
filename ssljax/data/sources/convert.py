"""Rows of any layout become records: columns renamed, labels numbered, gaps counted."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ssljax.data.records import checks, files
from ssljax.data.records.records import Records
from ssljax.data.records.schema import SCHEMA
from ssljax.data.sources.named import NO_LABEL, NO_TEXT
from ssljax.errors import UserError

MAPPED = ("id", "text", "response", "label", "category")  # what --columns may name

Row = tuple[Path, int, Mapping]  # file (or data set and split), line, the source's row
Convert = Callable[[Mapping, str], dict | str]  # (row, its place) -> record, or why not


def collect(
  rows: Iterable[Row],
  convert: Convert,
  prefix: str,
  labels: Sequence[str],
  dropped: collections.Counter,
) -> Records:
  """Converts rows and holds them as columns.

  Args:
    rows: of one split.
    convert: gives a record without source, or the reason why the row is left out.
    prefix: begins the ids of records that have none, and is every record's source.
    labels: class names by id, written as label_name; empty to keep the records' own.
    dropped: counts the rows left out, by reason.
  """
  tables, paths, path, line = [], {}, [], []
  count = 0
  for some in _batches(rows):
    kept = []
    for file, number, row in some:
      count += 1
      record = convert(row, files.place(file, number))
      if isinstance(record, str):
        dropped[record] += 1
        continue
      label = record.get("label")
      name = record.get("label_name")
      kept.append(
        {
          **record,
          "id": record.get("id") or f"{prefix}:{count}",
          "label_name": labels[label] if labels and label is not None else name,
          "source": prefix,
        }
      )
      path.append(paths.setdefault(file, len(paths)))
      line.append(number)
    tables.append(_table(kept, list(paths), path, line))
  records = Records(
    pa.concat_tables(tables or [SCHEMA.empty_table()]),
    tuple(paths),
    np.array(path, np.int32),
    np.array(line, np.int64),
  )
  checks.rows(records)
  return records


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
  rows = iter(rows)
  while some := list(itertools.islice(rows, files.BATCH)):
    yield some


def _table(kept: list[dict], paths: list[Path], path: list, line: list) -> pa.Table:
  try:
    return pa.Table.from_pylist(kept, SCHEMA)
  except UnicodeEncodeError:
    begin = len(line) - len(kept)
    for i, record in enumerate(kept, begin):
      try:
        pa.Table.from_pylist([record], SCHEMA)
      except UnicodeEncodeError as error:
        raise UserError(
          f"{files.place(paths[path[i]], line[i])}: half a surrogate pair, not valid "
          "Unicode; remove or replace the character"
        ) from error
    raise


def converter(
  columns: Mapping[str, str], labels: Sequence[str], chosen: Sequence[str]
) -> Convert:
  """The conversion that --columns and --labels ask for.

  Args:
    columns: our column -> the source's, for all of MAPPED.
    labels: class names by id, or empty.
    chosen: the columns that the user named, which every row must have.
  """

  def convert(row: Mapping, place: str) -> dict | str:
    for name in ("text", *chosen):
      if columns[name] not in row:
        raise UserError(
          f"{place}: no column {columns[name]!r} (it has {', '.join(map(str, row))}); "
          f"name the right one with --columns={name}=NAME"
        )
    text = _string(row, columns["text"], place)
    if not text or not text.strip():
      return NO_TEXT
    label = _label(row.get(columns["label"]), labels, place, columns["label"])
    identity = row.get(columns["id"])
    return {
      "id": None if identity in (None, "") else str(identity),
      "text": text,
      "response": _string(row, columns["response"], place) or None,
      "label": label,
      "category": _string(row, columns["category"], place) or None,
      # A file that is in our layout already may carry names of its own.
      "label_name": None if label is None else row.get("label_name") or None,
    }

  return convert


def labelled(convert: Convert) -> Convert:
  """Leaves out rows without a label, as validation and test need it."""

  def keep(row: Mapping, place: str) -> dict | str:
    record = convert(row, place)
    if not isinstance(record, str) and record.get("label") is None:
      return NO_LABEL
    return record

  return keep


def _string(row: Mapping, name: str, place: str) -> str | None:
  value = row.get(name)
  if value is not None and not isinstance(value, str):
    raise UserError(
      f"{place}: {name}: {files.short(value)} should be a string; choose another "
      "column with --columns"
    )
  return value


def _label(value: object, labels: Sequence[str], place: str, column: str) -> int | None:
  if value is None or value == "" or value != value:  # NaN stands for null
    return None
  if labels:
    folded = [name.casefold() for name in labels]
    word = str(value).strip().casefold()
    if word in folded:
      return folded.index(word)
  number = None
  if not isinstance(value, bool):
    try:
      number = float(value)
    except (TypeError, ValueError):
      number = None
  if (
    number is None
    or not number.is_integer()
    or number < 0
    or (labels and number >= len(labels))
  ):
    known = f"one of {', '.join(labels)}, nor their ids" if labels else "a class id"
    raise UserError(
      f"{place}: {column}: {files.short(value)} is not {known}; give every class's "
      "name in the order of the ids with --labels=NAME0,NAME1,…"
    )
  return int(number)

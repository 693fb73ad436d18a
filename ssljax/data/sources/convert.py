"""Converts rows of any layout to records: renames columns, maps labels to ids."""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ssljax.data.records import checks, files, schema
from ssljax.data.records.records import Records
from ssljax.data.records.schema import SCHEMA
from ssljax.data.sources.named import NO_LABEL, NO_TEXT
from ssljax.errors import UserError

COLUMNS = ("id", "text", "response", "label", "category")  # that --columns can map

SourceRow = tuple[Path, int, Mapping]  # (file, or dataset and split; line; the row)
# (row, its location) -> a record, or the reason for dropping the row.
Converter = Callable[[Mapping, str], dict | str]


def collect_records(
  rows: Iterable[SourceRow],
  convert: Converter,
  prefix: str,
  labels: Sequence[str],
  dropped: collections.Counter,
) -> Records:
  """Converts the rows of one split.

  Args:
    rows: of one split.
    convert: returns a record without source, or the reason for dropping the row.
    prefix: records without an id get `<prefix>:<row>`; also every record's source.
    labels: class names by id, stored as label_name; empty keeps the records' own names.
    dropped: counts the dropped rows by reason.
  """
  tables, paths, path, line = [], {}, [], []
  count = 0
  for chunk in files.chunked(rows, files.BATCH):
    records, locations = [], []
    for file, number, row in chunk:
      count += 1
      location = files.location(file, number)
      record = convert(row, location)
      if isinstance(record, str):
        dropped[record] += 1
        continue
      label = record.get("label")
      name = record.get("label_name")
      records.append(
        {
          **record,
          "id": record.get("id") or f"{prefix}:{count}",
          "label_name": labels[label] if labels and label is not None else name,
          "source": prefix,
        }
      )
      locations.append(location)
      path.append(paths.setdefault(file, len(paths)))
      line.append(number)
    columns = [
      schema.to_column(name, [r.get(name) for r in records], locations.__getitem__)
      for name in SCHEMA.names
    ]
    tables.append(pa.table(columns, SCHEMA))
  records = Records(
    pa.concat_tables(tables or [SCHEMA.empty_table()]),
    tuple(paths),
    np.array(path, np.int32),
    np.array(line, np.int64),
  )
  checks.check_rows(records)
  return records


def column_converter(
  columns: Mapping[str, str], labels: Sequence[str], required: Sequence[str]
) -> Converter:
  """The conversion that --columns and --labels describe.

  Args:
    columns: our column -> the source's, for all of COLUMNS.
    labels: class names by id, or empty.
    required: columns named by the user, which every row must have.
  """

  def convert(row: Mapping, location: str) -> dict | str:
    for name in ("text", *required):
      if columns[name] not in row:
        raise UserError(
          f"{location}: no column {columns[name]!r} (the row has "
          f"{', '.join(map(str, row))}); give the right one with --columns={name}=NAME"
        )
    text = _string(row, columns["text"], location)
    if not text or not text.strip():
      return NO_TEXT
    label = _label_id(row.get(columns["label"]), labels, location, columns["label"])
    id_ = row.get(columns["id"])
    return {
      "id": None if id_ in (None, "") else str(id_),
      "text": text,
      "response": _string(row, columns["response"], location) or None,
      "label": label,
      "category": _string(row, columns["category"], location) or None,
      # Files that are in our layout already may have label names.
      "label_name": None if label is None else row.get("label_name") or None,
    }

  return convert


def require_label(convert: Converter) -> Converter:
  """Also drops rows without a label, for validation and test."""

  def convert_labelled(row: Mapping, location: str) -> dict | str:
    record = convert(row, location)
    if not isinstance(record, str) and record.get("label") is None:
      return NO_LABEL
    return record

  return convert_labelled


def _string(row: Mapping, name: str, location: str) -> str | None:
  value = row.get(name)
  if value is not None and not isinstance(value, str):
    raise UserError(
      f"{location}: {name} is {files.shorten(value)}, but should be a string; choose "
      "another column with --columns"
    )
  return value


def _label_id(
  value: object, labels: Sequence[str], location: str, column: str
) -> int | None:
  if value is None or value == "" or value != value:  # NaN means null
    return None
  if labels:
    names = [name.casefold() for name in labels]
    name = str(value).strip().casefold()
    if name in names:
      return names.index(name)
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
    expected = f"one of {', '.join(labels)} or their ids" if labels else "a class id"
    raise UserError(
      f"{location}: {column} is {files.shorten(value)}, which is not {expected}; list "
      "all class names in the order of their ids with --labels=NAME0,NAME1,…"
    )
  return int(number)

"""Converts rows of any layout to records: renames columns and maps labels to ids."""

import collections
import numbers
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from ssljax.data.records import checks, files, schema, selected
from ssljax.data.records.records import Records
from ssljax.data.records.schema import SCHEMA
from ssljax.data.sources.labels import LabelColumn
from ssljax.data.sources.named import NO_LABEL, NO_TEXT
from ssljax.errors import UserError

# That --columns can map.
COLUMNS = ("id", "text", "response", "label", "label_name", "category")

SourceRow = tuple[Path, int, Mapping]  # (file or name of the split, line, row)
# (row, its location) -> a record, or the reason for dropping the row.
Converter = Callable[[Mapping, str], dict | str]


def collect_records(
  rows: Iterable[SourceRow],
  convert: Converter,
  prefix: str,
  dropped: collections.Counter,
  drop_unlabelled: bool = False,
) -> Records:
  """Converts the rows of one split.

  Args:
    rows: the rows with their locations.
    convert: returns a record, or the reason for dropping the row.
    prefix: the source of every record that has none; if a record has no id, it gets
      `<prefix>:<row>`.
    dropped: counts the dropped rows by reason.
    drop_unlabelled: whether to drop rows without a label; True for validation and
      test.
  """
  tables, paths, path, line = [], {}, [], []
  for chunk in files.chunked(enumerate(rows, 1), files.BATCH):
    records, locations = [], []
    for count, (file, number, row) in chunk:
      location = files.location(file, number)
      record = convert(row, location)
      if isinstance(record, str):
        dropped[record] += 1
        continue
      if record.get("label") is None and drop_unlabelled:
        dropped[NO_LABEL] += 1
        continue
      id_ = record.get("id") or f"{prefix}:{count}"
      source = record.get("source") or prefix
      records.append({**record, "id": id_, "source": source})
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


def convert_columns(
  row: Mapping, location: str, mapped: Mapping[str, str], labels: LabelColumn
) -> dict | str:
  """Converts a row as --columns and --labels say.

  Texts that `ssljax.select` wrote are restored (see `selected.restore`), and keep their
  source. `collect_records` adds all other sources, and `write_dataset` the name of the
  label.

  Args:
    row: must have a text and the mapped columns; other columns may be absent.
    mapped: for columns that the source names differently, maps our name to its name;
      "" leaves a column out.
    labels: reads the label column.
  """
  row = selected.restore(row, location)
  columns = {name: mapped.get(name, name) for name in COLUMNS}
  for name in ("text", *mapped):
    if columns[name] and columns[name] not in row:
      raise UserError(
        f"{location}: no column {columns[name]!r} (the row has "
        f"{', '.join(map(str, row))}); give the right one with --columns={name}=NAME"
      )
  text = _string(row, columns["text"], location)
  if not text or not text.strip():
    return NO_TEXT
  label = None
  if columns["label"]:
    # Without a mapping, label_name is the name of `label`, not of another column.
    is_name = "label_name" in mapped or columns["label"] == "label"
    label_name = _string(row, columns["label_name"], location) if is_name else None
    label = labels.read(row.get(columns["label"]), label_name, location)
  return {
    "id": _id(row, columns["id"], location),
    "text": text,
    "response": _string(row, columns["response"], location) or None,
    "label": label,
    "category": _string(row, columns["category"], location) or None,
    "source": selected.SOURCE if row.get("source") == selected.SOURCE else None,
  }


def _string(row: Mapping, name: str, location: str) -> str | None:
  value = row.get(name) if name else None
  if value is not None and not isinstance(value, str):
    raise UserError(
      f"{location}: {name} is {files.shorten(value)}, but should be a string; choose "
      "another column with --columns=OURS=NAME, or leave it out with --columns=OURS="
    )
  return value


def _id(row: Mapping, name: str, location: str) -> str | None:
  value = row.get(name) if name else None
  if value is None or value == "" or value != value:  # NaN means null
    return None
  if isinstance(value, bool) or not isinstance(value, str | numbers.Number | uuid.UUID):
    raise UserError(
      f"{location}: {name} is {files.shorten(value)}, but should be a string or a "
      "number; choose another column with --columns=id=NAME, or --columns=id= for new "
      "ids"
    )
  return str(value)

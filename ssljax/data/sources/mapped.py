"""Reads files whose columns have other names, as `--columns` says, without preparing.

Commands that score or compare a user's file share these functions.
"""

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssljax.data.records import declared, files, read, split_files
from ssljax.data.records.records import Records, concat
from ssljax.data.sources import convert
from ssljax.data.sources.labels import LabelColumn, label_id, parse_labels
from ssljax.data.sources.named import NO_TEXT
from ssljax.errors import UserError

TEXTS = ("id", "text", "response")  # what --columns can map for texts without labels


def read_texts(path: str | Path, columns: Mapping[str, str]) -> Records:
  """`read.read_texts` for other names of columns.

  Args:
    columns: maps names in TEXTS to those of the file; "" leaves a column out.

  Raises:
    UserError: as for `read.read_texts`, or a column is missing.
  """
  if not columns:
    return read.read_texts(path)
  left_out = {"label": "", "label_name": "", "category": ""}
  records = _read(Path(path).expanduser(), {**left_out, **columns}, ())
  read.check_not_empty(records, f"{path}: the file")
  return records


def read_labelled(
  data: str | Path, labels: Sequence[str] = (), columns: Mapping[str, str] | None = None
) -> tuple[Records, list[str]]:
  """`read.read_labelled_with_notes` for other names of columns.

    records, notes = read_labelled("new.csv", run.labels, {"label": "verdict"})

  Args:
    data: a file, or a folder whose test split is read.
    labels: the model's class names by id. The label column may hold these names, in any
      case, or ids.
    columns: maps names in `convert.COLUMNS` to those of the file; "" leaves a column
      out. Without it, labels must be ids.

  Raises:
    UserError: as for `read.read_labelled_with_notes`, or a column is missing.
  """
  if not columns:
    return read.read_labelled_with_notes(data, labels)
  if columns.get("label") == "":
    raise UserError("--columns=label=: labels are needed here; name their column")
  paths = split_files.find_test_files(Path(data).expanduser())
  mapped = {"label": "label", **columns}
  records = concat([_read(path, mapped, labels) for path in paths])
  return read.check_labelled(records, data, labels)


def _read(path: Path, columns: Mapping[str, str], labels: Sequence[str]) -> Records:
  name = columns["label"]
  own_names = declared.class_names(path, name) if name else ()
  column = LabelColumn(name, parse_labels([], labels))

  def to_record(row: Mapping, location: str) -> dict:
    mapped = {**columns, "label": ""}  # read below
    record = convert.convert_columns(row, location, mapped, column)
    if isinstance(record, str):
      problem = "the row has no text" if record == NO_TEXT else record
      raise UserError(f"{location}: {problem}; remove the row")
    if not name:
      return record
    if name not in row:
      raise UserError(
        f"{location}: no column {name!r} (the row has {', '.join(map(str, row))}); "
        "give the right one with --columns=label=NAME"
      )
    record["label"] = _label(row[name], column, location)
    is_named = name == "label" or "label_name" in columns
    named = row.get(columns.get("label_name", "label_name")) if is_named else None
    if not named and isinstance(row[name], int) and 0 <= row[name] < len(own_names):
      named = own_names[row[name]]
    record["label_name"] = named if isinstance(named, str) and named.strip() else None
    return record

  rows = ((path, *row) for row in files.read_rows(path))
  return convert.collect_records(
    rows, to_record, files.stem(path), collections.Counter()
  )


def _label(value: object, column: LabelColumn, location: str) -> int | None:
  try:
    return label_id(value, column.labels, location, column.name)
  except UserError:
    names = ", ".join(filter(None, column.labels.names))
    expected = (
      f"one of the model's classes ({names}) or their ids" if names else "an id"
    )
    raise UserError(
      f"{location}: {column.name} is {files.shorten(value)}, which is not {expected}; "
      "correct it, or map values to ids with `python -m ssljax.data.prepare --labels=…`"
    ) from None

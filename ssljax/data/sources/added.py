"""Adds newly labelled rows to a dataset, as `prepare --add` does.

The rows are usually those of `ssljax.select`, whose column `label_name` somebody has
filled in. A row that is still empty there stays unlabelled.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ssljax.data.dedup.normalize import text_digest
from ssljax.data.records import files, selected
from ssljax.data.records.records import Records, concat
from ssljax.data.records.schema import SCHEMA
from ssljax.data.sources import convert
from ssljax.data.sources.labels import (
  LabelColumn,
  Labels,
  are_other_numbers,
  parse_labels,
)
from ssljax.errors import UserError

UNLABELLED = "still unlabelled"


def add_labelled(
  splits: Mapping[str, Records], paths: Sequence[Path], names: Mapping[int, str]
) -> tuple[dict[str, Records], list[str]]:
  """Adds the labelled rows of files to the train split.

  If train has the text without a label, the row gets the label. If a split has the row,
  with its id and text and another label, the label is replaced. A row of `select
  --doubts` needs only the text: datasets without ids get other ones from `prepare` than
  from training. Otherwise the row is appended to train, unless train has the text with
  this label.

  Args:
    splits: the records of the dataset.
    paths: the files, with the columns `text` and `label_name` (or `label`).
    names: class names by id; {} if the classes have none.

  Returns:
    (splits, notes for the log).

  Raises:
    UserError: a file that can't be read; an unknown label; a text that has changed.
  """
  if "train" not in splits:
    raise UserError("--add needs a train split to add to; the source has none")
  labels = _labels(names)
  dropped: collections.Counter = collections.Counter()
  added = concat(
    [_read(path, labels, dropped, f"added-{files.stem(path)}") for path in paths]
  )
  result = dict(splits)
  columns = {name: _Columns(records) for name, records in result.items()}
  train = columns["train"]
  unlabelled = train.first_rows(train.label < 0)
  labelled = {
    (digest, int(label))
    for digest, label in zip(train.digest, train.label, strict=True)
    if label >= 0
  }
  by_id = {
    (id_, digest): (name, row)
    for name, part in columns.items()
    for row, (id_, digest) in enumerate(zip(part.id, part.digest, strict=True))
  }
  by_text = collections.defaultdict(list)  # the labelled rows
  for (_, digest), (name, row) in by_id.items():
    if columns[name].label[row] >= 0:
      by_text[digest].append((name, row))
  counts: collections.Counter = collections.Counter()
  append = []
  new = _Columns(added)
  chosen = selected.is_selected(added)
  corrects = [source == selected.DOUBT for source in new.source]
  for i, (id_, digest) in enumerate(zip(new.id, new.digest, strict=True)):
    label = int(new.label[i])
    if place := by_id.get((id_, digest)):
      places = [place]
    elif corrects[i] and digest in by_text:
      places = by_text[digest]
    else:
      places = [("train", unlabelled[digest])] if digest in unlabelled else []
    changed = [(name, row) for name, row in places if columns[name].label[row] != label]
    for name, row in changed:
      before = columns[name].label[row]
      counts["texts of train got a label" if before < 0 else "labels replaced"] += 1
      columns[name].label[row] = label
      if chosen[i] and before < 0:
        columns[name].source[row] = selected.SOURCE
      if unlabelled.get(digest) == row and name == "train":
        del unlabelled[digest]
    if changed:
      labelled.add((digest, label))
    elif places or (digest, label) in labelled:
      counts["had this label already"] += 1
    else:
      append.append(i)
      labelled.add((digest, label))
      counts["texts added to train"] += 1
  result = {name: columns[name].records() for name in result}
  if append:
    rows = added.take(np.array(append))
    used = {id_ for part in columns.values() for id_ in part.id}
    ids = [_unused(id_, used) for id_ in rows.column("id")]
    position, field = SCHEMA.get_field_index("id"), SCHEMA.field("id")
    table = rows.table.set_column(position, field, pa.array(ids, field.type))
    result["train"] = concat([result["train"], dataclasses.replace(rows, table=table)])
  counts.update(dropped)
  listed = ", ".join(f"{count} {what}" for what, count in counts.items())
  where = ", ".join(map(str, paths))
  return result, [f"--add={where}: {listed or 'no rows'}"]


def _unused(id_: str, used: set[str]) -> str:
  """The id, with a prefix as often as it takes; adds it to the used ones."""
  while id_ in used:
    id_ = f"added:{id_}"
  used.add(id_)
  return id_


class _Columns:
  """The columns of records that are compared, or that change."""

  def __init__(self, records: Records):
    self._records = records
    self.id = records.column("id")
    pairs = zip(records.column("text"), records.column("response"), strict=True)
    self.digest = [text_digest(text, response) for text, response in pairs]
    self.label = records.label.copy()
    self.source = records.column("source")

  def first_rows(self, are_of_interest: np.ndarray) -> dict[bytes, int]:
    """The first row of each text, among some rows."""
    rows: dict[bytes, int] = {}
    for row in np.flatnonzero(are_of_interest):
      rows.setdefault(self.digest[row], int(row))
    return rows

  def records(self) -> Records:
    """The records with the columns' labels and sources."""
    table = self._records.table
    label = pa.array(self.label, mask=self.label < 0)
    for name, column in (("label", label), ("source", self.source)):
      position, field = SCHEMA.get_field_index(name), SCHEMA.field(name)
      table = table.set_column(position, field, pa.array(column, field.type))
    return dataclasses.replace(self._records, table=table)


def _labels(names: Mapping[int, str]) -> Labels:
  listed = [names.get(i, str(i)) for i in range(max(names, default=-1) + 1)]
  return parse_labels((), listed)


def _content(value: Any) -> Any:
  """The value of a cell; None if it's empty."""
  value = value.strip() if isinstance(value, str) else value
  return None if value == "" or value != value else value  # NaN means empty


def _read(
  path: Path, labels: Labels, dropped: collections.Counter, prefix: str
) -> Records:
  column = "label_name"
  reader = LabelColumn(column, labels)
  present: dict[str, None] = {}  # the columns of the file

  def to_record(row: Mapping, location: str) -> dict | str:
    present.update(dict.fromkeys(row))
    name, value = _content(row.get("label_name")), _content(row.get("label"))
    if name is not None:
      value = str(name)  # a name, also if the file holds it as a number
    elif value is None:
      return UNLABELLED
    elif are_other_numbers(labels.names):
      raise UserError(
        f"{location}: label is {files.shorten(value)}, which may be a class id or one "
        f"of the names {', '.join(labels.names)}; put the names in a column label_name"
      )
    filled = {**row, column: value}
    mapped = {"label": column, "label_name": ""}
    record = convert.convert_columns(filled, location, mapped, reader)
    if isinstance(record, dict) and row.get("suggested"):  # of `select --doubts`
      record["source"] = selected.DOUBT
    return record

  rows = ((path, *numbered) for numbered in files.read_rows(path))
  records = convert.collect_records(rows, to_record, prefix, dropped)
  if present and not present.keys() & {"label_name", "label"}:
    raise UserError(
      f"--add={path}: no column label_name (the file has {', '.join(present)}); "
      "rename the column that holds the classes"
    )
  return records

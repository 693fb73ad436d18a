"""Checks records and splits; an error names the first row that breaks a rule.

The checks run on whole columns and look at single rows only to report an error.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssljax.data.records import files
from ssljax.data.records.records import Records
from ssljax.data.records.schema import label_error
from ssljax.errors import UserError


def check_texts(records: Records) -> None:
  """Checks that every row has a text, and every view a kind and a text."""
  text = records.table["text"]
  bad = pc.or_kleene(text.is_null(), pc.equal(pc.utf8_trim_whitespace(text), ""))
  if pc.any(bad).as_py():
    row = int(np.argmax(bad.to_numpy()))
    raise UserError(
      f"{records.location(row)}: text is empty ({files.shorten(text[row].as_py())}); "
      "fill it in or remove the row"
    )
  views = records.table["views"].combine_chunks()
  flat = pc.list_flatten(views)
  for name in ("kind", "text"):
    values = pc.struct_field(flat, name)
    bad = pc.or_kleene(values.is_null(), pc.equal(pc.utf8_trim_whitespace(values), ""))
    if pc.any(bad).as_py():
      row = pc.list_parent_indices(views)[int(np.argmax(bad.to_numpy(False)))].as_py()
      raise UserError(
        f"{records.location(row)}: views: a view has no {name}; add one or remove the "
        "view"
      )


def check_rows(records: Records) -> None:
  """Checks texts, views and labels of single rows, and that ids are unique."""
  check_texts(records)
  table = records.table
  label = records.label
  bad = (label < 0) & table["label"].is_valid().to_numpy()
  if bad.any():
    row = int(np.argmax(bad))
    raise label_error(records.location(row), int(label[row]))
  named = (
    table["label"].is_null().to_numpy() & table["label_name"].is_valid().to_numpy()
  )
  if named.any():
    row = int(np.argmax(named))
    name = files.shorten(table["label_name"][row].as_py())
    raise UserError(
      f"{records.location(row)}: label is missing, but label_name is {name}; add the "
      "class id or remove the name (`python -m ssljax.data.prepare --labels=…` turns "
      "names into ids)"
    )
  check_unique_ids([records])


def check_unique_ids(parts: Sequence[Records]) -> None:
  """Checks that no id occurs twice, within a part or across parts."""
  ids = pa.chunked_array(
    [chunk for part in parts for chunk in part.table["id"].chunks], pa.large_string()
  )
  if pc.count_distinct(ids).as_py() == len(ids):
    return
  first: dict[str, tuple[Records, int]] = {}
  for part in parts:
    for row, name in enumerate(part.column("id")):
      if name in first:
        other, other_row = first[name]
        raise UserError(
          f"{part.location(row)}: id {files.shorten(name)} already occurs in "
          f"{other.location(other_row)}; make ids unique within and across splits"
        )
      first[name] = (part, row)


def check_labels(splits: Mapping[str, Records]) -> tuple[str, ...]:
  """Checks the labels and label names of all splits; returns class names by id.

  The train split must have every label 0..C-1, with C of at least 2. Validation and
  test must be fully labelled, with no other labels.
  """
  train = splits["train"]
  label = train.label
  present = np.unique(label[label >= 0])  # one huge label must not cost memory
  if not len(present):
    raise UserError(
      f"{train.paths[0]}: label: no row of the train split has a label; label some "
      "rows with 0, 1, …"
    )
  classes = len(present)
  if present[-1] != classes - 1:
    absent = int(np.argmin(present == np.arange(classes)))
    raise UserError(
      f"{train.paths[0]}: label: the train split has label {present[-1]} "
      f"({train.location(int(np.argmax(label)))}) but no label {absent}; number the "
      "classes 0, 1, … without gaps"
    )
  if classes < 2:
    raise UserError(
      f"{train.paths[0]}: label: every labelled row of the train split has label 0; a "
      "classifier needs at least two classes"
    )
  for name in ("validation", "test"):
    check_all_labelled(splits[name], f"every row of {name} needs a label")
    check_label_range(splits[name], classes, "the train split")
  names: dict[int, str] = {}
  for part in splits.values():
    check_label_names(part, names)
  return tuple(names.get(i, str(i)) for i in range(classes))


def check_all_labelled(records: Records, reason: str) -> None:
  """Checks that every row has a label; `reason` is part of the error."""
  missing = records.label < 0
  if missing.any():
    location = records.location(int(np.argmax(missing)))
    raise UserError(
      f"{location}: label is missing (null), but {reason}; label the row or remove it"
    )


def check_label_range(records: Records, classes: int, owner: str) -> None:
  """Checks that labels are below `classes`, the number of classes of `owner`."""
  label = records.label
  if (label >= classes).any():
    row = int(np.argmax(label >= classes))
    raise UserError(
      f"{records.location(row)}: label {label[row]} is unknown: {owner} has labels 0 "
      f"to {classes - 1}; correct the row or remove it"
    )


def check_label_names(records: Records, names: dict[int, str]) -> None:
  """Checks that label names are one-to-one and agree with `names`; adds new ones."""
  pairs = records.table.select(["label", "label_name"]).group_by(
    ["label", "label_name"], use_threads=False
  )
  for pair in pairs.aggregate([]).to_pylist():
    label, name = pair["label"], pair["label_name"]
    if name is None:
      continue
    other = next((i for i, n in names.items() if n == name), label)
    if names.setdefault(label, name) != name or other != label:
      same = pc.and_(
        pc.equal(records.table["label"], label),
        pc.equal(records.table["label_name"], name),
      )
      row = int(np.argmax(same.fill_null(False).to_numpy()))
      conflict = f"label {label} is already named {files.shorten(names[label])}"
      if other != label:
        conflict = f"that is the name of label {other}"
      raise UserError(
        f"{records.location(row)}: label_name is {files.shorten(name)} for label "
        f"{label}, but {conflict}; give each label one distinct name"
      )

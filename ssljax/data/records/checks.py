"""Checks records and splits; an error names the first row that breaks a rule.

The checks run on whole columns and look at single rows only to report an error.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssljax.data.records.files import shorten
from ssljax.data.records.records import Records
from ssljax.data.records.schema import label_error
from ssljax.errors import UserError


def check_texts(records: Records) -> None:
  """Checks that every row has a text, and every view a kind and a text."""
  text = records.table["text"]
  _check(
    records,
    ~_is_blank(text),
    lambda row: (
      f"text is empty ({shorten(text[row].as_py())}); fill it in or remove the row"
    ),
  )
  views = records.table["views"].combine_chunks()
  for name in ("kind", "text"):
    blank = _is_blank(pc.struct_field(pc.list_flatten(views), name))
    is_complete = np.ones(len(records), bool)
    is_complete[pc.list_parent_indices(views).to_numpy()[blank]] = False
    reason = f"views: a view has no {name}; add one or remove the view"
    _check(records, is_complete, lambda row, reason=reason: reason)


def check_rows(records: Records) -> None:
  """Checks texts, views and labels of single rows, and that ids are unique."""
  check_texts(records)
  label, name = records.label, records.table["label_name"]
  has_label = records.table["label"].is_valid().to_numpy()
  negative = np.flatnonzero((label < 0) & has_label)
  if len(negative):
    row = int(negative[0])
    raise label_error(records.location(row), int(label[row]))
  _check(
    records,
    has_label | name.is_null().to_numpy(),
    lambda row: (
      f"label is missing, but label_name is {shorten(name[row].as_py())}; add the "
      "class id or remove the name (`python -m ssljax.data.prepare --labels=…` turns "
      "names into ids)"
    ),
  )
  check_unique_ids([records])


def _is_blank(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
  """bool [n], whether a string is null or only white space."""
  is_empty = pc.equal(pc.utf8_trim_whitespace(column), "")
  return np.asarray(is_empty.fill_null(True), bool)


def _check(
  records: Records, is_valid: np.ndarray, explain: Callable[[int], str]
) -> None:
  """Raises UserError for the first row that isn't valid; `explain` gets its index."""
  if not is_valid.all():
    row = int(np.argmin(is_valid))
    raise UserError(f"{records.location(row)}: {explain(row)}")


def check_unique_ids(parts: Sequence[Records]) -> None:
  """Checks that no id occurs twice, within a part or across parts."""
  ids = pa.chunked_array(
    [chunk for part in parts for chunk in part.table["id"].chunks], pa.large_string()
  )
  if pc.count_distinct(ids).as_py() == len(ids):
    return
  first: dict[str, str] = {}  # id -> location
  for part in parts:
    for row, id_ in enumerate(part.column("id")):
      if id_ in first:
        raise UserError(
          f"{part.location(row)}: id {shorten(id_)} already occurs in {first[id_]}; "
          "make ids unique within and across splits"
        )
      first[id_] = part.location(row)


def check_labels(splits: Mapping[str, Records]) -> tuple[str, ...]:
  """Checks the labels and label names of all splits; returns class names by id.

  The train split must have every label 0..C-1, with C of at least 2. Validation and
  test must be fully labelled, with no other labels.
  """
  train = splits["train"]
  label = train.label
  present = np.unique(label[label >= 0])  # bincount would allocate up to a huge label
  classes = len(present)
  reason = ""
  if not classes:
    reason = "no row of the train split has a label; label some rows with 0, 1, …"
  elif present[-1] != classes - 1:
    absent = int(np.argmin(present == np.arange(classes)))
    reason = (
      f"the train split has label {present[-1]} "
      f"({train.location(int(np.argmax(label)))}) but no label {absent}; number the "
      "classes 0, 1, … without gaps"
    )
  elif classes < 2:
    reason = (
      "every labelled row of the train split has label 0; a classifier needs at least "
      "two classes"
    )
  if reason:
    raise UserError(f"{train.paths[0]}: label: {reason}")
  for name in ("validation", "test"):
    check_all_labelled(splits[name], f"every row of {name} needs a label")
    check_label_range(splits[name], classes, "the train split")
  names: dict[int, str] = {}
  for part in splits.values():
    check_label_names(part, names)
  return tuple(names.get(i, str(i)) for i in range(classes))


def check_all_labelled(records: Records, reason: str) -> None:
  """Checks that every row has a label; `reason` is part of the error."""
  message = f"label is missing (null), but {reason}; label the row or remove it"
  _check(records, records.label >= 0, lambda row: message)


def check_label_range(records: Records, classes: int, owner: str) -> None:
  """Checks that labels are below `classes`, the number of classes of `owner`."""
  label = records.label
  _check(
    records,
    label < classes,
    lambda row: (
      f"label {label[row]} is unknown: {owner} has labels 0 to {classes - 1}; correct "
      "the row or remove it"
    ),
  )


def check_label_names(records: Records, names: dict[int, str]) -> None:
  """Checks that label names are one-to-one and agree with `names`; adds new ones."""
  columns = records.table.select(["label", "label_name"])
  pairs = columns.group_by(columns.column_names, use_threads=False).aggregate([])
  for label, name in zip(*pairs.to_pydict().values(), strict=True):
    if name is None:
      continue
    other = next((i for i, n in names.items() if n == name), label)
    if names.setdefault(label, name) == name and other == label:
      continue
    conflict = f"that is the name of label {other}"
    if other == label:
      conflict = f"label {label} is already named {shorten(names[label])}"
    same = pc.and_(
      pc.equal(columns["label"], label), pc.equal(columns["label_name"], name)
    )
    row = int(np.argmax(same.fill_null(False).to_numpy()))
    raise UserError(
      f"{records.location(row)}: label_name is {shorten(name)} for label {label}, but "
      f"{conflict}; give each label one distinct name"
    )

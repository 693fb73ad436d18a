"""What must hold of rows and of splits; the first row that breaks a rule is named.

Checks go over whole columns; a single row is looked at only once one is known to be
bad.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssljax.data.records import files
from ssljax.data.records.schema import bad_label
from ssljax.errors import UserError

if TYPE_CHECKING:
  from ssljax.data.records.records import Records


def texts(records: "Records") -> None:
  """Every row has a text, and every view a kind and a text."""
  text = records.table["text"]
  bad = pc.or_kleene(text.is_null(), pc.equal(pc.utf8_trim_whitespace(text), ""))
  if pc.any(bad).as_py():
    row = int(np.argmax(bad.to_numpy()))
    raise UserError(
      f"{records.place(row)}: text: no text ({files.short(text[row].as_py())}); "
      "fill the cell or remove the row"
    )
  views = records.table["views"].combine_chunks()
  flat = pc.list_flatten(views)
  for name in ("kind", "text"):
    part = pc.struct_field(flat, name)
    bad = pc.or_kleene(part.is_null(), pc.equal(pc.utf8_trim_whitespace(part), ""))
    if pc.any(bad).as_py():
      row = pc.list_parent_indices(views)[int(np.argmax(bad.to_numpy(False)))].as_py()
      raise UserError(
        f"{records.place(row)}: views: a view without {name}; give it one or "
        "remove the view"
      )


def rows(records: "Records") -> None:
  """Every row has a text; labels, their names and views are whole; ids differ."""
  texts(records)
  table = records.table
  label = records.label
  bad = (label < 0) & table["label"].is_valid().to_numpy()
  if bad.any():
    row = int(np.argmax(bad))
    raise bad_label(records.place(row), int(label[row]))
  named = (
    table["label"].is_null().to_numpy() & table["label_name"].is_valid().to_numpy()
  )
  if named.any():
    row = int(np.argmax(named))
    name = files.short(table["label_name"][row].as_py())
    raise UserError(
      f"{records.place(row)}: label: missing, but label_name is {name}; give the id of "
      "the class too, or remove the name (`python -m ssljax.data.prepare --labels=…` "
      "turns names into ids)"
    )
  ids([records])


def ids(parts: Sequence["Records"]) -> None:
  """No id stands twice, within a part or across them."""
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
          f"{part.place(row)}: id: {files.short(name)} stands already in "
          f"{other.place(other_row)}; ids must differ, within a split and across them"
        )
      first[name] = (part, row)


def labels(splits: Mapping[str, "Records"]) -> tuple[str, ...]:
  """Class names by id, of splits whose labels are 0..C-1, known and named alike."""
  train = splits["train"]
  label = train.label
  found = np.unique(label[label >= 0])  # a stray huge label costs no memory
  if not len(found):
    raise UserError(
      f"{train.paths[0]}: label: no row of the train split has one; label some rows "
      "with 0, 1, …"
    )
  classes = len(found)
  if found[-1] != classes - 1:
    absent = int(np.argmin(found == np.arange(classes)))
    raise UserError(
      f"{train.paths[0]}: label: no row of the train split has label "
      f"{absent} though one has {found[-1]} "
      f"({train.place(int(np.argmax(label)))}); classes are "
      "numbered 0, 1, … without gaps"
    )
  if classes < 2:
    raise UserError(
      f"{train.paths[0]}: label: every labelled row of the train split has label 0; a "
      "classifier needs at least two classes"
    )
  for name in ("validation", "test"):
    all_labelled(splits[name], f"only rows of train may be unlabelled, not of {name}")
    known(splits[name], classes, "the train split")
  names: dict[int, str] = {}
  for part in splits.values():
    names_agree(part, names)
  return tuple(names.get(i, str(i)) for i in range(classes))


def all_labelled(records: "Records", why: str) -> None:
  """No label is null; `why` ends the error."""
  missing = records.label < 0
  if missing.any():
    place = records.place(int(np.argmax(missing)))
    raise UserError(
      f"{place}: label: missing (null); {why}: label the row or remove it"
    )


def known(records: "Records", classes: int, where: str) -> None:
  """Labels are below `classes`, those of `where`."""
  label = records.label
  if (label >= classes).any():
    row = int(np.argmax(label >= classes))
    raise UserError(
      f"{records.place(row)}: label: {label[row]} is unknown, {where} has the labels 0 "
      f"to {classes - 1}; correct the row or remove it"
    )


def names_agree(records: "Records", names: dict[int, str]) -> None:
  """Adds the names of the classes to `names`; they must agree with it, one to one."""
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
      taken = f"{files.short(names[label])} is the name of label {label}"
      if other != label:
        taken = f"that is the name of label {other}"
      raise UserError(
        f"{records.place(row)}: label_name: {files.short(name)} for label {label}, but "
        f"{taken}; each label needs one name of its own"
      )

"""Checks records and splits; an error names the first row that breaks a rule.

The checks run on whole columns and look at single rows only to report an error.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssljax.data.records.files import shorten
from ssljax.data.records.records import Records, concat
from ssljax.errors import UserError

# Names that raise a warning if class 1, which counts as harmful, or class 0 has them.
SAFE = {
  *("ok", "okay", "safe", "benign", "harmless", "unharmful", "nontoxic", "inoffensive"),
  *("acceptable", "appropriate", "allowed"),
}
UNSAFE = {"harmful", "unsafe", "toxic", "malicious", "jailbreak"}
HARMLESS = SAFE | {"no", "false", "fine", "good", "clean", "none", "normal", "0"}
HARMFUL = UNSAFE | {"yes", "true", "bad"}


def check_texts(records: Records) -> None:
  """Checks that every row has a text, and that every view has a kind and a text."""
  is_text = ~_is_blank(records.table["text"])
  _check(records, is_text, "text is empty ({}); fill it in or remove the row")
  views = records.table["views"].combine_chunks()
  for name in ("kind", "text"):
    blank = _is_blank(pc.struct_field(pc.list_flatten(views), name))
    is_complete = np.ones(len(records), bool)
    is_complete[pc.list_parent_indices(views).to_numpy()[blank]] = False
    message = f"views: a view has no {name}; add one or remove the view"
    _check(records, is_complete, message)


def check_rows(records: Records) -> None:
  """Checks each row's text, views and label, and that ids are unique."""
  check_texts(records)
  has_no_name = records.table["label_name"].is_null().to_numpy()
  _check(
    records,
    (records.label >= 0) | has_no_name,
    "label is missing, but label_name is {}; add the class id or remove the name "
    "(`python -m ssljax.data.prepare --labels=…` turns names into ids)",
    "label_name",
  )
  check_unique_ids([records])


def _is_blank(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
  """bool [n], True where a string is null or only white space."""
  is_empty = pc.equal(pc.utf8_trim_whitespace(column), "")
  return np.asarray(is_empty.fill_null(True), bool)


def _check(
  records: Records, is_valid: np.ndarray, message: str, column: str = "text"
) -> None:
  """Raises UserError for the first row that isn't valid.

  In `message`, {} stands for the row's value of `column`.
  """
  if not is_valid.all():
    row = int(np.argmin(is_valid))
    value = shorten(records.table[column][row].as_py())
    raise UserError(f"{records.location(row)}: {message.format(value)}")


def check_unique_ids(parts: Sequence[Records]) -> None:
  """Checks that no id occurs twice, within a part or across parts."""
  records = concat(parts)
  if pc.count_distinct(records.table["id"]).as_py() == len(records):
    return
  first: dict[str, int] = {}  # id -> row
  for row, id_ in enumerate(records.column("id")):
    if first.setdefault(id_, row) != row:
      raise repeated_id(records.location(row), id_, records.location(first[id_]))


def repeated_id(location: str, id_: str, other: str) -> UserError:
  """The error for an id that occurs at two places."""
  return UserError(
    f"{location}: id {shorten(id_)} already occurs in {other}; make ids unique within "
    "and across splits (`python -m ssljax.data.prepare --columns=id=` writes new ids)"
  )


def check_labels(splits: Mapping[str, Records]) -> tuple[str, ...]:
  """Checks the labels and label names of all splits; returns class names by id.

  The train split must have all labels 0..C-1, and C must be at least 2. Every row of
  validation and test must have one of these labels.
  """
  train = splits["train"]
  label = train.label
  # np.bincount would need too much memory if a label were huge.
  present = np.unique(label[label >= 0])
  classes = len(present)
  if classes < 2:
    only = f"only label {present[0]}" if classes else "no labels"
    raise UserError(
      f"{train.paths[0]}: label: the train split has {only}; a classifier needs at "
      "least the labels 0 and 1"
    )
  if present[-1] != classes - 1:
    absent = int(np.argmin(present == np.arange(classes)))
    raise UserError(
      f"{train.location(int(np.argmax(label)))}: label: the train split has label "
      f"{present[-1]} but no label {absent}; number the classes 0, 1, … without gaps"
    )
  for name, rows in splits.items():
    if name != "train":
      check_all_labelled(rows, f"every row of {name} needs a label")
      check_label_range(rows, classes, "the train split")
  names = check_label_names(concat(list(splits.values())))
  return name_all(names, classes, str(train.paths[0]))


def name_all(names: Mapping[int, str], classes: int, place: str) -> tuple[str, ...]:
  """Class names by id; an unnamed class has its number as its name."""
  for i in range(classes):
    if i not in names and str(i) in names.values():
      raise UserError(
        f"{place}: label {i} has no name, but another label is named {str(i)!r}; name "
        "all labels, or leave the names out with `python -m ssljax.data.prepare "
        "--columns=label_name=`"
      )
  return tuple(names.get(i, str(i)) for i in range(classes))


def check_all_labelled(records: Records, reason: str) -> None:
  """Checks that every row has a label; the error includes `reason`."""
  message = f"label is missing (null), but {reason}; label the row or remove it"
  _check(records, records.label >= 0, message)


def check_label_range(records: Records, classes: int, owner: str) -> None:
  """Checks that every label is below `classes`, the number of classes of `owner`."""
  _check(
    records,
    records.label < classes,
    f"label {{}} is unknown: {owner} has labels 0 to {classes - 1}; correct the row or "
    "remove it",
    "label",
  )


def check_label_names(records: Records) -> dict[int, str]:
  """Checks that label names are one-to-one, and returns them by label.

  A name may be written in capitals in one row and not in another; the first counts.
  """
  names: dict[int, str] = {}
  for label, name in _names(records):
    names.setdefault(label, name)
    for other, other_name in names.items():
      same = other_name == name
      if other == label:
        same = _folded(other_name) == _folded(name)
      if (other == label) != same:
        raise UserError(
          f"{_location(records, label, name)}: label_name is {shorten(name)} for label "
          f"{label}, but label {other} is named {shorten(other_name)}; give each label "
          "one distinct name"
        )
  return names


def check_model_names(records: Records, model: Mapping[int, str]) -> list[str]:
  """Refuses label names that mean another class of the model than their labels.

  Args:
    model: the model's class names by id, without unnamed classes.

  Returns:
    Notes: names of which this can't be told.
  """
  others, place = [], ""
  before: list[tuple[int, str]] = []
  for label, name in _names(records):
    for other, other_name in before:
      opposite = answers(other_name) * answers(name) < 0
      if other_name == name or (opposite and other == label):
        raise UserError(
          f"{_location(records, label, name)}: label_name is {shorten(name)} for label "
          f"{label}, but {shorten(other_name)} for label {other} in "
          f"{_location(records, other, other_name)}; correct one of them"
        )
    before.append((label, name))
    own = model.get(label)
    meant = classes_meant(name, model)
    is_opposite = answers(own or "") * answers(name) < 0
    if is_opposite or (meant and label not in meant):
      other = min(meant - {label}, default=label)
      raise UserError(
        f"{_location(records, label, name)}: label_name is {shorten(name)} for label "
        f"{label}, but the model's label {other} is {shorten(model[other])}; if the "
        "ids are right, leave the names out with `python -m ssljax.data.prepare "
        "--as=test --columns=label_name=`; otherwise add --labels=ID:MODEL_ID,… to it"
      )
    if meant != {label}:
      theirs = shorten(own) if own else "no name"
      others.append(f"label {label} is {shorten(name)} ({theirs} in the model)")
      place = place or _location(records, label, name)
  if not others:
    return []
  more = ", …" if len(others) > 5 else ""
  return [f"{place}: other class names than the model's: {', '.join(others[:5])}{more}"]


def _names(records: Records) -> list[tuple[int, str]]:
  """The distinct pairs of a label and a name, in order."""
  columns = records.table.select(["label", "label_name"])
  pairs = columns.group_by(columns.column_names, use_threads=False).aggregate([])
  both = zip(*pairs.to_pydict().values(), strict=True)
  return [(label, name) for label, name in both if name is not None]


def _location(records: Records, label: int, name: str) -> str:
  """The location of the first row with this label and name."""
  pairs = zip(records.column("label"), records.column("label_name"), strict=True)
  return records.location(list(pairs).index((label, name)))


def class_order_warning(names: Sequence[str], advice: str) -> str:
  """A warning if two classes seem to have each other's names; otherwise "".

  Args:
    advice: the flags of `prepare` that exchange the classes.
  """
  if len(names) != 2:
    return ""
  zero, one = map(plain_words, names)
  if one not in HARMLESS and zero not in HARMFUL and not re.match("(not|non|no) ", one):
    return ""
  if any(name.isdecimal() for name in names):  # a map of numbers would be of names
    advice = advice.partition(" --labels=")[0] if "--source" in advice else ""
    advice = f"{advice} --columns=label_name= --labels=0:1,1:0".strip()
  return (
    f"warning: class 1 counts as harmful, but its name is {names[1]!r} (class 0 is "
    f"{names[0]!r}); if the two are swapped, prepare the data again with {advice}"
  )


def answers(name: str) -> int:
  """Like `polarity`, but knows yes and no, good and bad as well."""
  words = plain_words(name)
  return polarity(name) or (words in HARMFUL) - (words in HARMLESS - {"0"})


def polarity(name: str) -> int:
  """1 if the name certainly means harmful, -1 if it means harmless, otherwise 0."""
  words = plain_words(name)
  if re.match("(not|non) ", words):
    return -polarity(words[4:])
  return (words in UNSAFE) - (words in SAFE)


def means(ours: str, theirs: str) -> bool:
  """Whether two class names are alike (`negative`, `neg`), or both mean harmful."""
  a, b = plain_words(ours), plain_words(theirs)
  alike = a.startswith(b) or b.startswith(a)
  opinion = polarity(ours)
  return (bool(a and b) and alike) or (opinion != 0 and opinion == polarity(theirs))


def classes_meant(name: str, names: Mapping[int, str]) -> set[int]:
  """The classes with this name; if there are none, those whose names mean the same."""
  for alike in (str.__eq__, lambda *both: len({*map(_folded, both)}) == 1, means):
    if classes := {i for i, other in names.items() if alike(other, name)}:
      return classes
  return set()


def _folded(name: str) -> str:
  return name.strip().casefold()


def plain_words(name: str) -> str:
  """The words of a class name in lower case, with one space between them."""
  return re.sub(r"[\W_]+", " ", name.casefold()).strip()

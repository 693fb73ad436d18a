"""Decides which class each value of a label column stands for.

Names are compared without case. `1.0` means 1 everywhere, because tools that represent
null as NaN write integers as floats.
"""

import functools
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ssljax.data.records.checks import polarity
from ssljax.data.records.declared import mismatch
from ssljax.data.records.files import shorten
from ssljax.errors import UserError


class Labels(NamedTuple):
  """What --labels says, together with the names that the dataset declares."""

  # Class names by id; () if the column holds ids, "" for a class without a name.
  names: tuple[str, ...] = ()
  ids: Mapping[str, int | None] = {}  # from the form of a name or value to its id
  is_map: bool = False  # whether `ids` lists all values
  declared: tuple[str, ...] = ()  # names by id that a ClassLabel declares


class LabelColumn:
  """Reads the values of a label column, and remembers what the data calls them."""

  def __init__(self, name: str, labels: Labels) -> None:
    self.name = name  # of the column
    self.labels = labels
    self.names_only = 0  # rows with a label_name and no label
    self._read: dict[tuple, int | None] = {}  # what `read` returned
    self._values: dict[str, tuple[str, int | None]] = {}  # value, its class
    # The data's own names, with their class and location: by value, and by name.
    self._by_value: dict[str, tuple[str, int, str]] = {}
    self._by_name: dict[str, tuple[str, int, str]] = {}

  def read(self, value: object, label_name: str | None, location: str) -> int | None:
    """The class of a value; None if it has no label.

    Args:
      label_name: the name that the row gives the value, if any.

    Raises:
      UserError: an unknown value, or a name that contradicts its class.
    """
    if _is_null(value):
      self.names_only += bool(label_name and label_name.strip())
      return None
    key = (type(value), str(value), label_name)
    if key not in self._read:
      self._read[key] = self._read_new(value, label_name, location)
    return self._read[key]

  def _read_new(
    self, value: object, label_name: str | None, location: str
  ) -> int | None:
    label = label_id(value, self.labels, location, self.name)
    form, declared = _form(value), _declared_name(value, self.labels)
    written = declared or (form if _is_number(form) else str(value).strip())
    listed = _listed_form(value, self.labels)
    self._values.setdefault(listed, (written, label))
    # A name that is the value itself says nothing.
    named = (label_name or "").strip(), declared or ""
    names = [name for name in named if name and _form(name) != form]
    if label is None or not names:
      return label
    if len({*map(self._key, names)}) > 1:
      raise mismatch(location, names[0], self.name, form, names[-1])
    self._check_name(names[-1], label, listed, location)
    return label

  def _check_name(self, own: str, label: int, value: str, location: str) -> None:
    """Refuses a name in the data that contradicts the class of its row.

    Args:
      own: the name.
      value: the form of the value that has this name.
    """
    given = self.labels.ids.get(_form(own), label)
    _, other, place = self._by_name.setdefault(self._key(own), (own, label, location))
    other_name, _, other_place = self._by_value.setdefault(
      value, (own, label, location)
    )
    name = self._given_name(label)
    names = [name, *(n for n, class_, _ in self._by_name.values() if class_ == label)]
    opposite = [n for n in names if n and polarity(own) * polarity(n) < 0]
    if given != label:
      are_declared = self.labels.names == self.labels.declared
      said = "the dataset declares" if are_declared else "--labels says"
      reason = f"{said} that {shorten(own)} is {_class(given)}"
    elif other != label:
      reason = f"{place} has the same name and is class {other}"
    elif opposite and opposite[0] == name:
      reason = f"--labels calls this class {shorten(name)}"
    elif opposite:
      reason = f"other rows of this class have {shorten(opposite[0])}"
    elif not name and _form(own) != _form(other_name):
      reason = f"{other_place} has the same label and is {shorten(other_name)}"
    else:
      return
    raise UserError(
      f"{location}: the row's class is {label} and its name in the data is "
      f"{shorten(own)}, but {reason}; if the names in the data are right, use them "
      "with --columns=label=label_name, or change --labels; if they are wrong, leave "
      "them out with --columns=label_name="
    )

  def _key(self, name: str) -> str:
    """The form of a name; the name itself if declared names differ only in case."""
    form = _form(name)
    is_ambiguous = name in self.labels.declared and (
      form not in _distinct(self.labels.declared)
    )
    return name if is_ambiguous else form

  def _given_name(self, label: int) -> str | None:
    """The name that --labels gives a class, unless it's a number."""
    name = dict(enumerate(self.labels.names)).get(label)
    return None if not name or _is_number(name) else name

  def names(self) -> dict[int, str]:
    """Class names by id, after all values were read.

    They are those of --labels. If these are numbers, a class has the data's own name
    for its first value, if it has one: the first in the order of --labels, of those
    that occur.
    """
    order = list(self.labels.ids)
    rank = lambda value: order.index(value) if value in order else len(order)
    first: dict[int | None, str] = {}  # class -> value
    for value in sorted(self._values, key=rank):
      first.setdefault(self._values[value][1], value)
    names = {label: name for label, name in enumerate(self.labels.names) if name}
    for value in set(first.values()).intersection(self._by_value):
      own, label, _ = self._by_value[value]
      if not self._given_name(label):
        names[label] = own
    return names

  def renamed(self) -> dict[str, str]:
    """From names in the data that --labels doesn't list to those of their classes."""
    names = self.names()
    renamed = {
      own: names.get(label, str(label))
      for own, label, _ in self._by_name.values()
      if _form(own) not in self.labels.ids
    }
    return {own: name for own, name in renamed.items() if _form(own) != _form(name)}

  def swapped(self) -> str:
    """The flag that exchanges two classes. It lists all values that were read."""
    pairs = [
      (value, label if label is None else 1 - label)
      for value, label in self._values.values()
    ]
    pairs.sort(key=lambda pair: 2 if pair[1] is None else pair[1])
    items = [f"{value}:{'null' if new is None else new}" for value, new in pairs]
    for i, item in enumerate(items):
      if re.search('[",]', item):  # absl reads the flag as a line of CSV
        items[i] = '"' + item.replace('"', '""') + '"'
    return shlex.quote(f"--labels={','.join(items)}")


def parse_labels(items: Sequence[str], declared: Sequence[str] = ()) -> Labels:
  """Parses --labels.

    parse_labels(["ok", "rude"])                       # class names by id
    parse_labels(["rude:1", "ok:0", "?:null"])         # a map; null is no label
    parse_labels([], declared=["1", "2"])              # the names of a ClassLabel

  Args:
    items: all are names, or all are VALUE:ID or VALUE:null. With names, the column may
      hold names or ids. A map must list every value.
    declared: class names by id if the column is a ClassLabel, whose integers are
      always ids; "" for a class without a name. The values of a map are these names.

  Raises:
    UserError: names and pairs are mixed; a value occurs twice; ids have gaps; a name is
      also the id of another class, or `declared` has it for another class.
  """
  items = [item.strip() for item in items]
  pairs = [re.fullmatch(r"(.+):([0-9]+|null)", item) for item in items]
  if not any(pairs):
    names = tuple(items or declared)
    labels = Labels(names, _distinct(names), declared=tuple(declared))
  elif all(pairs):
    values = [pair[1].strip() for pair in pairs]
    numbers = [None if pair[2] == "null" else int(pair[2]) for pair in pairs]
    ids = dict(zip(map(_form, values), numbers, strict=True))
    classes = sorted({number for number in numbers if number is not None})
    if classes != list(range(len(classes))):
      raise UserError(
        f"--labels: the ids are {', '.join(map(str, classes))}; number the classes 0, "
        "1, … without gaps"
      )
    names = tuple(values[numbers.index(i)] for i in classes)
    if {*map(_form, names)} == {*map(str, classes)}:
      names = tuple(map(str, classes))  # the classes get other ids, not other names
    labels = Labels(names, ids, True, tuple(declared))
  else:
    single = next(item for item, pair in zip(items, pairs, strict=True) if not pair)
    raise UserError(
      f"--labels: {single!r} has no id, but other values have; write VALUE:ID or "
      "VALUE:null for each of them"
    )
  if items and (len(labels.ids) < len(items) or "" in labels.ids):
    raise UserError(
      f"--labels={','.join(items)}: a value is empty or occurs twice; give each value "
      "once (case doesn't matter, and 1.0 means 1)"
    )
  values_are_ids = labels.is_map and not are_other_numbers(labels.declared)
  for i, name in enumerate(labels.declared if values_are_ids else ()):
    if len({labels.ids[f] for f in (_form(name), str(i)) if f in labels.ids}) > 1:
      raise UserError(
        f"--labels: {name!r} is the name of the id {i}, but they have different "
        "classes; list one of them"
      )
  _check_order(labels, given=bool(items))
  return labels


def _check_order(labels: Labels, given: bool) -> None:
  """Refuses names that could stand for two classes."""
  if labels.is_map or not given:
    return
  as_map = ",".join(f"{name}:{i}" for i, name in enumerate(labels.names))
  declared = _distinct(labels.declared)
  for i, name in enumerate(labels.names):
    form = _form(name)
    if declared.get(form, i) != i:
      raise UserError(
        f"--labels: {name!r} is class {i}, but the dataset declares it as class "
        f"{declared[form]}; omit --labels to keep the dataset's order, change it with "
        f"--labels={as_map}, or leave the dataset's names out with "
        "--columns=label_name="
      )
    is_other_id = _is_id(form) and i != int(form) < len(labels.names)
    if is_other_id and not labels.declared:
      raise UserError(
        f"--labels: {name!r} is the name of class {i} and also the id of class "
        f"{int(form)}; say which value is which class with --labels={as_map}, or omit "
        "--labels if the column holds ids"
      )


def label_id(value: object, labels: Labels, location: str, column: str) -> int | None:
  """The class of a value, or None if the value is null or stands for no label.

  Raises:
    UserError: an unknown value.
  """
  if _is_null(value):
    return None
  form, known = _listed_form(value, labels), labels.ids
  is_id = _is_id(form) and not isinstance(value, str)
  if labels.declared and is_id and not labels.is_map:
    known = {}  # a number is an id, even if a class has this name
  if form in known:
    return known[form]
  limit = len(labels.names) or math.inf
  names_only = bool(known) and are_other_numbers(labels.names)
  if not (labels.is_map or names_only) and _is_id(form) and int(form) < limit:
    return int(form)
  if labels.is_map:
    raise UserError(
      f"{location}: {column} is {shorten(value)}, which --labels doesn't list "
      f"({', '.join(labels.ids)}); add VALUE:ID for it, or VALUE:null if it means that "
      "a row has no label"
    )
  names = ", ".join(filter(None, labels.names))
  expected = f"one of {names}{'' if names_only else ' or their ids'}"
  if not names:
    expected = "a class id"
  raise UserError(
    f"{location}: {column} is {shorten(value)}, which is not {expected}; list "
    "all class names in the order of their ids with --labels=NAME0,NAME1,…, or map "
    "values to ids with --labels=VALUE:0,VALUE:1,VALUE:null"
  )


def _listed_form(value: object, labels: Labels) -> str:
  """The form in which a map lists a value: an id may stand for its declared name."""
  form = _form(value)
  name = _form(_declared_name(value, labels) or form)
  if not labels.is_map or name not in _distinct(labels.declared):
    return form
  return name if name in labels.ids or are_other_numbers(labels.declared) else form


def _declared_name(value: object, labels: Labels) -> str | None:
  """The name that a ClassLabel declares for an id."""
  form = _form(value)
  if isinstance(value, str) or not _is_id(form):
    return None
  return dict(enumerate(labels.declared)).get(int(form)) or None


def _distinct(names: Sequence[str]) -> dict[str, int]:
  """From the form of a name to its id; without names that differ only in case."""
  forms = list(map(_form, names))
  return {f: i for i, f in enumerate(forms) if f and forms.count(f) == 1}


def _class(label: int | None) -> str:
  return "no label" if label is None else f"class {label}"


def _is_null(value: object) -> bool:
  return value is None or value == "" or value != value  # NaN means null


@functools.cache
def are_other_numbers(names: tuple[str, ...]) -> bool:
  """Whether a name is a number, but not its own id: no number can then be an id."""
  forms = enumerate(map(_form, names))
  return any(_is_number(form) and form != str(i) for i, form in forms)


def _is_number(name: str) -> bool:
  return bool(re.fullmatch(r"-?[0-9]+", _form(name)))


def _is_id(form: str) -> bool:
  return form.isascii() and form.isdecimal()


def _form(value: object) -> str:
  """The form in which values are compared: 1, 1.0, "1" and "1.0" have the same."""
  text = str(value).strip().casefold()
  number = re.fullmatch(r"([+-]?[0-9]{1,18})(\.0*)?", text)
  return str(int(number[1])) if number else text

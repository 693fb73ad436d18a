"""Decides which class each value of a label column stands for.

Names are compared without case. `1.0` means 1 everywhere, because tools that represent
null as NaN write integers as floats.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ssljax.data.records.files import shorten
from ssljax.errors import UserError


class Labels(NamedTuple):
  """What --labels says, together with the names that a Hub dataset declares."""

  names: tuple[str, ...] = ()  # class names by id; () if the column holds ids
  ids: Mapping[str, int | None] = {}  # from the form of a name or value to its id
  is_map: bool = False  # whether `ids` lists all values
  declared: tuple[str, ...] = ()  # class names of a ClassLabel column, by id


def parse_labels(items: Sequence[str], declared: Sequence[str] = ()) -> Labels:
  """Parses --labels.

    parse_labels(["ok", "rude"])                       # class names by id
    parse_labels(["rude:1", "ok:0", "?:null"])         # a map; null is no label
    parse_labels([], declared=["1", "2"])              # the names of a ClassLabel

  Args:
    items: all are names, or all are VALUE:ID or VALUE:null. With names, the column may
      hold names or ids. A map must list every value.
    declared: class names by id if the column is a ClassLabel, whose integers are
      always ids. The values of a map are then these names.

  Raises:
    UserError: names and pairs are mixed; a value occurs twice; ids have gaps; a name is
      also the id of another class, or `declared` has it for another class.
  """
  items = [item.strip() for item in items]
  pairs = [re.fullmatch(r"(.+):(\d+|null)", item) for item in items]
  if not any(pairs):
    names = tuple(items or declared)
    ids = {_form(name): i for i, name in enumerate(names)}
    labels = Labels(names, ids, declared=tuple(declared))
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
    labels = Labels(names, ids, True, tuple(declared))
  else:
    single = next(item for item, pair in zip(items, pairs, strict=True) if not pair)
    raise UserError(
      f"--labels: {single!r} has no id, but other values have; write VALUE:ID or "
      "VALUE:null for each of them"
    )
  if len(labels.ids) < len(items) or "" in labels.ids:
    raise UserError(
      f"--labels={','.join(items)}: a value is empty or occurs twice; give each value "
      "once (case doesn't matter, and 1.0 means 1)"
    )
  _check_order(labels, given=bool(items))
  return labels


def _check_order(labels: Labels, given: bool) -> None:
  """Refuses names that could stand for two classes."""
  if labels.is_map or not given:
    return
  as_map = ",".join(f"{name}:{i}" for i, name in enumerate(labels.names))
  declared = {_form(name): i for i, name in enumerate(labels.declared)}
  for i, name in enumerate(labels.names):
    form = _form(name)
    if declared.get(form, i) != i:
      raise UserError(
        f"--labels: {name!r} is class {i}, but the dataset declares it as class "
        f"{declared[form]}; omit --labels to keep the dataset's order, or change it "
        f"with --labels={as_map}"
      )
    if not declared and form.isdecimal() and i != int(form) < len(labels.names):
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
  if value is None or value == "" or value != value:  # NaN means null
    return None
  form, known = _form(value), labels.ids
  if labels.declared and form.isdecimal() and not isinstance(value, str):
    if labels.is_map:
      form = _form(dict(enumerate(labels.declared)).get(int(form), ""))
    else:
      known = {}  # a number is an id, even if a class has this name
  if form in known:
    return known[form]
  limit = len(labels.names) or math.inf
  if not labels.is_map and form.isdecimal() and int(form) < limit:
    return int(form)
  if labels.is_map:
    raise UserError(
      f"{location}: {column} is {shorten(value)}, which --labels doesn't list "
      f"({', '.join(labels.ids)}); add VALUE:ID for it, or VALUE:null if it means that "
      "a row has no label"
    )
  names = ", ".join(labels.names)
  expected = f"one of {names} or their ids" if names else "a class id"
  raise UserError(
    f"{location}: {column} is {shorten(value)}, which is not {expected}; list "
    "all class names in the order of their ids with --labels=NAME0,NAME1,…, or map "
    "values to ids with --labels=VALUE:0,VALUE:1,VALUE:null"
  )


def _form(value: object) -> str:
  """The form in which values are compared: 1, 1.0, "1" and "1.0" have the same."""
  text = str(value).strip().casefold()
  number = re.fullmatch(r"([+-]?\d{1,18})(\.0*)?", text)
  return str(int(number[1])) if number else text

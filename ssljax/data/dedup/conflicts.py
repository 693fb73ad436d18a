"""Finds texts that have different labels in different rows.

`normalize` decides which texts are the same. Of a pair, text and response must be.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ssljax.data.dedup.normalize import text_digest
from ssljax.data.records.records import Records

SHOWN = 3  # number of texts whose places a note lists


def describe_conflicts(parts: Iterable[Records]) -> list[str]:
  """One note for the log that says where such texts are; [] if there are none."""
  return describe(items_of(parts))


def items_of(parts: Iterable[Records]) -> Iterator["Item"]:
  """Yields all texts that have a label."""
  for part in parts:
    columns = (part.column("text"), part.column("response"), part.label.tolist())
    for row, (text, response, label) in enumerate(zip(*columns, strict=True)):
      if label >= 0:
        yield Item(text_digest(text, response), label, part.location, row)


class Item(NamedTuple):
  """A labelled text."""

  digest: bytes
  label: int
  location: Callable[[int], str]
  row: int  # the argument of `location`


def describe(items: Iterable[Item]) -> list[str]:
  """`describe_conflicts` of items in the order of the data."""
  first: dict[bytes, Item] = {}
  conflicts: dict[bytes, str] = {}
  for item in items:
    other = first.setdefault(item.digest, item)
    if other.label != item.label and item.digest not in conflicts:
      places = (f"{i.location(i.row)} (label {i.label})" for i in (other, item))
      conflicts[item.digest] = " and ".join(places)
  if not conflicts:
    return []
  n = len(conflicts)
  what = "1 text has" if n == 1 else f"{n} texts have"
  more = "" if n <= SHOWN else f"; and {n - SHOWN} more"
  listed = "; ".join(list(conflicts.values())[:SHOWN])
  return [f"{what} more than one label: {listed}{more}"]

"""Which rows of train are rows of test, too, word for word.

What counts as the same says `alike`. Pairs are compared by prompt and response; where
either side has no response, by the prompt alone. The views of a row count as the row
does.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ssljax.data.dedup.normalize import same
from ssljax.data.records.records import Records

PROMPT = b"prompt of a pair"  # before its digest: what only a text alone may equal
Known = dict[bytes, tuple[int, int]]  # digest -> (part, row)


def known(parts: Iterable[Records]) -> Known:
  """The first row of `parts` that has each digest, for `find`."""
  found: Known = {}
  for number, part in enumerate(parts):
    pairs = zip(part.column("text"), part.column("response"), strict=True)
    for row, (text, response) in enumerate(pairs):
      found.setdefault(same(text, response), (number, row))
      if response:
        found.setdefault(PROMPT + same(text, None), (number, row))
  return found


def find(against: Known, text: str, response: str | None) -> tuple[int, int] | None:
  """(part, row) of the row that a text, or a pair, is."""
  prompt = same(text, None)
  if response:
    return against.get(same(text, response)) or against.get(prompt)
  return against.get(prompt) or against.get(PROMPT + prompt)


def rows(train: Records, against: Known) -> np.ndarray:
  """i64 [n, 2], (part, row) of the row that each row of train equals, else -1."""
  found = np.full((len(train), 2), -1)
  pairs = zip(train.column("text"), train.column("response"), strict=True)
  for i, (text, response) in enumerate(pairs):
    found[i] = find(against, text, response) or (-1, -1)
  return found


def without(train: Records, hits: Collection[tuple[int, int]]) -> Records:
  """The rows of train, less the views (row, place among its views) in `hits`."""
  gone = set(hits)
  views = [
    None
    if own is None
    else [view for k, view in enumerate(own) if (row, k) not in gone]
    for row, own in enumerate(train.column("views"))
  ]
  at = train.table.schema.get_field_index("views")
  field = train.table.schema.field(at)
  table = train.table.set_column(at, field, pa.array(views, field.type))
  return replace(train, table=table)


def views(train: Records, against: Known) -> list[tuple[int, int, tuple[int, int]]]:
  """(row, place among its views, (part, row)) of each view that equals one."""
  found = []
  responses = train.column("response")
  for i, own in enumerate(train.column("views")):
    for k, view in enumerate(own or ()):
      hit = find(against, view["text"], view["response"] or responses[i])
      if hit:
        found.append((i, k, hit))
  return found

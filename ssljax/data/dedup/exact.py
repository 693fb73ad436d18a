"""Finds texts and views of train that are exact duplicates of rows of other splits.

`normalize` decides which texts are the same. A pair is a prompt with its response; in
duplicate pairs, both are the same. If either side has no response, only the prompts are
compared. A view without a response uses the response of its row.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ssljax.data.dedup.normalize import text_digest
from ssljax.data.records.records import Records, Splits
from ssljax.data.records.schema import SCHEMA
from ssljax.errors import UserError

# Marks the digest of a pair's prompt; only texts without a response match it.
PROMPT = b"prompt of a pair"
BATCH = 4096  # number of rows held as Python objects at a time
DigestIndex = dict[bytes, tuple[int, int]]  # digest -> (part, row)


def index_digests(parts: Iterable[Records]) -> DigestIndex:
  """Maps each digest to the first row of `parts` with that digest."""
  index: DigestIndex = {}
  for number, part in enumerate(parts):
    pairs = zip(part.column("text"), part.column("response"), strict=True)
    for row, (text, response) in enumerate(pairs):
      index.setdefault(text_digest(text, response), (number, row))
      if response:
        index.setdefault(PROMPT + text_digest(text, None), (number, row))
  return index


def find_duplicate(
  index: DigestIndex, text: str, response: str | None
) -> tuple[int, int] | None:
  """(part, row) of an indexed row with the same text or pair; None if there is none."""
  pair = text_digest(text, response) if response else None
  return find_digests(index, text_digest(text, None), pair)


def find_digests(
  index: DigestIndex, prompt: bytes, pair: bytes | None
) -> tuple[int, int] | None:
  """`find_duplicate`, given the digests; without a response, `pair` is None."""
  if pair:
    return index.get(pair) or index.get(prompt)
  return index.get(prompt) or index.get(PROMPT + prompt)


Item = tuple[int, int | None, str, str | None]


def iterate_texts(records: Records) -> Iterator[Item]:
  """Yields (row, index of the view, text, response) of all texts and stored views.

  The index of the view is None for the text itself.
  """
  table = records.table.select(["text", "response", "views"])
  rows = (row for batch in table.to_batches(BATCH) for row in batch.to_pylist())
  for i, row in enumerate(rows):
    yield i, None, row["text"], row["response"]
    for k, view in enumerate(row["views"] or ()):
      yield i, k, view["text"], view["response"] or row["response"]


def find_duplicates(
  train: Records, index: DigestIndex
) -> dict[tuple[int, int | None], tuple[int, int]]:
  """Maps the (row, view) of each duplicate to the (part, row) that it duplicates.

  As in `iterate_texts`, the view is None for the text itself.
  """
  return {
    (row, view): match
    for row, view, text, response in iterate_texts(train)
    if (match := find_duplicate(index, text, response))
  }


def resolve_overlap(splits: Splits, on_overlap: str) -> tuple[Splits, str]:
  """Refuses or drops texts of train that are also in validation or test.

  Args:
    on_overlap: "error" or "drop".

  Returns:
    (splits, note): the note says what was dropped, and is "" if nothing was.

  Raises:
    UserError: there is an overlap, and `on_overlap` is "error".
  """
  others = {"validation": splits.validation, "test": splits.test}
  index = index_digests(others.values())
  duplicates = find_duplicates(splits.train, index)
  if not duplicates:
    return splits, ""
  rows = [row for row, view in duplicates if view is None]
  views = len(duplicates) - len(rows)
  if on_overlap == "error":
    (row, view), (part, other_row) = next(iter(duplicates.items()))
    name = list(others)[part]
    other = f"{name} ({others[name].location(other_row)})"
    raise overlap_error(splits.train.location(row), view, other, len(rows), views)
  kept = [
    views and [view for k, view in enumerate(views) if (row, k) not in duplicates]
    for row, views in enumerate(splits.train.column("views"))
  ]
  field = SCHEMA.field("views")
  position = SCHEMA.get_field_index("views")
  table = splits.train.table.set_column(position, field, pa.array(kept, field.type))
  train = replace(splits.train, table=table)
  train = train.take(np.delete(np.arange(len(train)), rows))
  note = dropped_note(len(rows), views)
  return splits._replace(train=train, notes=(*splits.notes, note)), note


def overlap_error(
  location: str, view: int | None, other: str, rows: int, views: int
) -> UserError:
  """The error for texts of train that are also in another split.

  Args:
    location, view: where the first of them is; the view is None for a text.
    other: where it is in the other split.
    rows, views: how many texts and views there are.
  """
  what = "this text" if view is None else f"view {view + 1}"
  return UserError(
    f"{location}: {what} is also in {other}; {rows} texts and {views} views of train "
    "overlap with validation or test: set --config.on_overlap=drop to drop them, or "
    "list them with python -m ssljax.data.contamination"
  )


def dropped_note(rows: int, views: int) -> str:
  return f"dropped {rows} rows and {views} views of train that are also in " + (
    "validation or test"
  )

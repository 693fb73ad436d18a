"""Finds rows of train, and their views, that are exact duplicates of rows of test.

`normalize` decides which texts are the same. Pairs are compared by prompt and response,
or by the prompt alone if either side has no response. A view without a response takes
the response of its row.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ssljax.data.dedup.normalize import text_digest
from ssljax.data.records.records import Records, Splits
from ssljax.errors import UserError

# Marks the digest of a pair's prompt; only texts without a response match it.
PROMPT = b"prompt of a pair"
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
  """(part, row) of an indexed row with the same text or pair; None without one."""
  prompt = text_digest(text, None)
  if response:
    return index.get(text_digest(text, response)) or index.get(prompt)
  return index.get(prompt) or index.get(PROMPT + prompt)


def duplicate_rows(train: Records, index: DigestIndex) -> np.ndarray:
  """i64 [n, 2], (part, row) that each row of train duplicates; (-1, -1) if none."""
  pairs = zip(train.column("text"), train.column("response"), strict=True)
  matches = [find_duplicate(index, *pair) or (-1, -1) for pair in pairs]
  return np.array(matches, np.int64).reshape(-1, 2)


def duplicate_views(
  train: Records, index: DigestIndex
) -> list[tuple[int, int, tuple[int, int]]]:
  """(row, index of the view, (part, row)) of each view that is a duplicate."""
  rows = zip(train.column("views"), train.column("response"), strict=True)
  return [
    (i, k, match)
    for i, (views, response) in enumerate(rows)
    for k, view in enumerate(views or ())
    if (match := find_duplicate(index, view["text"], view["response"] or response))
  ]


def remove_views(train: Records, removed: set[tuple[int, int]]) -> Records:
  """Returns train without some views, each given as (row, index of the view)."""
  kept = train.column("views")
  for row in {row for row, _ in removed}:
    kept[row] = [view for k, view in enumerate(kept[row]) if (row, k) not in removed]
  position = train.table.schema.get_field_index("views")
  field = train.table.schema.field(position)
  table = train.table.set_column(position, field, pa.array(kept, field.type))
  return replace(train, table=table)


def resolve_overlap(splits: Splits, on_overlap: str) -> tuple[Splits, str]:
  """Refuses or drops texts of train that are also in validation or test.

  Args:
    on_overlap: "error" or "drop".

  Returns:
    (splits, note), where the note says what was dropped; "" if nothing was.

  Raises:
    UserError: there is an overlap, and `on_overlap` is "error".
  """
  others = {"validation": splits.validation, "test": splits.test}
  index = index_digests(others.values())
  duplicates = duplicate_rows(splits.train, index)
  views = duplicate_views(splits.train, index)
  rows = np.flatnonzero(duplicates[:, 0] >= 0)
  if not len(rows) and not views:
    return splits, ""
  if on_overlap == "error":
    what = "this text"
    if len(rows):
      row, (part, other_row) = rows[0], duplicates[rows[0]]
    else:
      row, view, (part, other_row) = views[0]
      what = f"view {view + 1}"
    name = list(others)[part]
    raise UserError(
      f"{splits.train.location(row)}: {what} is also in {name} "
      f"({others[name].location(other_row)}); {len(rows)} texts and {len(views)} views "
      "of train overlap with validation or test: set --config.on_overlap=drop to drop "
      "them, or list them with python -m ssljax.data.contamination"
    )
  train = remove_views(splits.train, {(row, view) for row, view, _ in views})
  train = train.take(np.flatnonzero(duplicates[:, 0] < 0))
  note = (
    f"dropped {len(rows)} rows and {len(views)} views of train that are also in "
    "validation or test"
  )
  return splits._replace(train=train, notes=(*splits.notes, note)), note

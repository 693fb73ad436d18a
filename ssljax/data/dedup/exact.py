"""Finds rows of train, and their views, that are exact duplicates of rows of test.

`normalize` decides which texts are the same. Pairs are compared by prompt and response,
or by the prompt alone if either side has no response. A view without a response has the
response of its row.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ssljax.data.dedup.normalize import text_digest
from ssljax.data.records.records import Records, Splits
from ssljax.errors import UserError

# Prefix for the digest of a pair's prompt, which matches only texts without a response.
PROMPT = b"prompt of a pair"
DigestIndex = dict[bytes, tuple[int, int]]  # digest -> (part, row)


def index_digests(parts: Iterable[Records]) -> DigestIndex:
  """Maps each digest to the first row of `parts` that has it."""
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
  """(part, row) of an indexed row that is the same as a text or pair."""
  prompt = text_digest(text, None)
  if response:
    return index.get(text_digest(text, response)) or index.get(prompt)
  return index.get(prompt) or index.get(PROMPT + prompt)


def duplicate_rows(train: Records, index: DigestIndex) -> np.ndarray:
  """i64 [n, 2], (part, row) that each row of train duplicates; (-1, -1) if none."""
  duplicates = np.full((len(train), 2), -1)
  pairs = zip(train.column("text"), train.column("response"), strict=True)
  for i, (text, response) in enumerate(pairs):
    duplicates[i] = find_duplicate(index, text, response) or (-1, -1)
  return duplicates


def duplicate_views(
  train: Records, index: DigestIndex
) -> list[tuple[int, int, tuple[int, int]]]:
  """(row, index among its views, (part, row)) of each view that is a duplicate."""
  duplicates = []
  responses = train.column("response")
  for i, views in enumerate(train.column("views")):
    for k, view in enumerate(views or ()):
      match = find_duplicate(index, view["text"], view["response"] or responses[i])
      if match:
        duplicates.append((i, k, match))
  return duplicates


def remove_views(train: Records, removed: Collection[tuple[int, int]]) -> Records:
  """The rows of train without the views (row, index among its views) in `removed`."""
  removed = set(removed)
  kept = [
    None
    if views is None
    else [view for k, view in enumerate(views) if (row, k) not in removed]
    for row, views in enumerate(train.column("views"))
  ]
  position = train.table.schema.get_field_index("views")
  field = train.table.schema.field(position)
  table = train.table.set_column(position, field, pa.array(kept, field.type))
  return replace(train, table=table)


def resolve_overlap(splits: Splits, on_overlap: str) -> tuple[Splits, str]:
  """Refuses or drops texts of train that are also in validation or test.

  Args:
    on_overlap: "error" or "drop".

  Returns:
    (splits, note on what was dropped, "" if nothing was).

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
    row, view, (part, other_row) = (
      (rows[0], None, duplicates[rows[0]]) if len(rows) else views[0]
    )
    name = list(others)[part]
    what = "this text" if view is None else f"view {view + 1}"
    raise UserError(
      f"{splits.train.location(row)}: {what} is also in {name} "
      f"({others[name].location(other_row)}); {len(rows)} texts and {len(views)} views "
      "of train overlap with validation or test: set --config.on_overlap=drop to drop "
      "them, or list them with python -m ssljax.data.contamination"
    )
  kept = np.flatnonzero(duplicates[:, 0] < 0)
  train = remove_views(splits.train, [(row, view) for row, view, _ in views])
  note = (
    f"dropped {len(rows)} rows and {len(views)} views of train that are also in "
    "validation or test"
  )
  clean = splits._replace(train=train.take(kept), notes=(*splits.notes, note))
  return clean, note

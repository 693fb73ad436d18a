"""Finds texts that have different labels in different rows.

`normalize` decides which texts are the same. Of a pair, text and response must be.
"""

from collections.abc import Iterable

from ssljax.data.dedup.normalize import text_digest
from ssljax.data.records.records import Records

SHOWN = 3  # number of texts whose places a note lists


def describe_conflicts(parts: Iterable[Records]) -> list[str]:
  """One note for the log that says where such texts are; [] if there are none."""
  first: dict[bytes, tuple[int, Records, int]] = {}  # digest -> label, part, row
  conflicts: dict[bytes, str] = {}
  for part in parts:
    columns = (part.column("text"), part.column("response"), part.label.tolist())
    for row, (text, response, label) in enumerate(zip(*columns, strict=True)):
      if label < 0:
        continue
      digest = text_digest(text, response)
      other, other_part, other_row = first.setdefault(digest, (label, part, row))
      if other != label and digest not in conflicts:
        conflicts[digest] = (
          f"{other_part.location(other_row)} (label {other}) and {part.location(row)} "
          f"(label {label})"
        )
  if not conflicts:
    return []
  n = len(conflicts)
  what = "1 text has" if n == 1 else f"{n} texts have"
  more = "" if n <= SHOWN else f"; and {n - SHOWN} more"
  listed = "; ".join(list(conflicts.values())[:SHOWN])
  return [f"{what} more than one label: {listed}{more}"]

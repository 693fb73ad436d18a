"""Rows that `ssljax.select` wrote, and the way of their texts through a spreadsheet.

A spreadsheet computes a cell that begins with =, +, - or @, and reads `1-2` as a date.
`protect` therefore writes an apostrophe before such a cell. Some programs show the
apostrophe, others remove it, and texts may begin with one. CHECK holds a hash of the
row's id, text and response, with which `restore` tells what the cells were, and whether
somebody has changed them.
"""

import hashlib
import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ssljax.data.records.files import shorten
from ssljax.data.records.records import Records
from ssljax.errors import UserError

SOURCE = "select"  # the value of the column `source` of rows that a model has chosen
DOUBT = "doubts"  # of rows whose label a model has doubted
CHECK = "text_check"  # the column with the hash
CELL_LIMIT = 32767  # characters in a cell of Excel, which cuts longer texts
# Excel also computes the wide forms of these characters.
_FORMULA = re.compile(r"[\s']*[=+\-@\uff1d\uff0b\uff0d\uff20]")
# Booleans, and what pandas reads as no text.
_WORDS = ("true", "false", "na", "n/a", "#n/a", "#na", "<na>", "nan", "null", "none")


def protect(cell: str | None) -> str:
  """The cell as it's written to CSV: with an apostrophe if a spreadsheet may change it.

  >>> protect("=1+1"), protect("Hello"), protect("1-2"), protect(None)
  ("'=1+1", 'Hello', "'1-2", '')
  """
  if not cell:
    return ""
  # A number, date or time has at most two words, such as "5 May, 3 pm".
  is_value = any(c.isdigit() for c in cell) and len(re.findall(r"[^\W\d]+", cell)) <= 2
  is_word = cell.strip().casefold() in _WORDS
  if _FORMULA.match(cell) or cell[0] in "'\t\r\n" or is_value or is_word:
    return f"'{cell}"
  return cell


def check_value(id_: str, text: str, response: str | None) -> str:
  """The value of CHECK. Line ends don't count: spreadsheets write \\n for \\r\\n."""
  parts = [re.sub("\r\n?", "\n", part) for part in (id_, text, response or "")]
  content = "\0".join(parts).encode("utf-8", "surrogatepass")
  return f"sha256:{hashlib.sha256(content).hexdigest()[:16]}"


def restore(row: Mapping[str, Any], location: str) -> Mapping[str, Any]:
  """The row with its id, text and response as they were before `protect`.

  A row without CHECK is returned as it is.

  Raises:
    UserError: one of the three has changed.
  """
  check = row.get(CHECK)
  if not check:
    return row
  cells = [row.get(name) for name in ("id", "text", "response")]
  for id_, text, response in itertools.product(*map(_originals, cells)):
    if check_value(id_, text, response) == str(check).strip():
      return {**row, "id": id_, "text": text, "response": response or None}
  raise UserError(
    f"{location}: the id, the text or the response has changed since ssljax.select "
    f"wrote it (the text is now {shorten(str(cells[1]))}); a spreadsheet may have cut "
    "or converted it: copy the row again from the original file, or empty its cell "
    f"{CHECK} if you meant to change it"
  )


def _originals(cell: object) -> list[str]:
  """The texts that may have become this cell."""
  if cell is None or cell == "":
    return [""]
  cell = str(cell)
  return [*([cell[1:]] if cell[0] == "'" else []), cell, f"'{cell}"]


def is_selected(records: Records) -> np.ndarray:
  """bool [n], True for rows that a model has chosen."""
  chosen = pc.equal(records.table["source"], SOURCE)
  return np.asarray(chosen.fill_null(False), bool)


def describe(records: Records, what: str) -> list[str]:
  """A warning if a model has chosen rows of a set on which models are judged.

  Args:
    what: what the set is for, such as "metrics".
  """
  count = int(is_selected(records).sum())
  if not count:
    return []
  return [
    f"warning: ssljax.select chose {count} of {len(records)} texts because a model was "
    f"unsure about them: {what} from them say nothing about other texts"
  ]

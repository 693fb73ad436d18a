"""Caches tables of words on disk, so that each is computed once per machine."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from typing import Any

from ssljax.assets import fetch
from ssljax.runtime import lock
from ssljax.runtime.json_files import plain, write_json

FORMAT = 2  # version of the files; version 1 was the table without a hash


def load_table(folder: str, key: tuple, compute: Callable[[], dict]) -> dict[str, Any]:
  """Returns the table that `compute()` makes, from the cache if possible.

  The file holds a hash of the table, so that a damaged table is computed again.

  Args:
    folder: subfolder of the package's cache folder.
    key: all that the table depends on; its `repr` is hashed.
    compute: makes a table of JSON types and arrays.
  """
  digest = hashlib.blake2b(repr((FORMAT, key)).encode(), digest_size=16).hexdigest()
  file = fetch.cache_folder() / folder / f"{digest}.json"
  with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
    saved = json.loads(file.read_text(encoding="utf-8"))
    if saved["sha256"] == _sha256(saved["table"]):
      return saved["table"]
  table = plain(compute())
  # A read-only cache is no reason to fail.
  with contextlib.suppress(OSError), lock.shared(file.parent):
    write_json(file, {"sha256": _sha256(table), "table": table})
  return table


def _sha256(table: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(table).encode()).hexdigest()

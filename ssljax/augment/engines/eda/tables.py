"""Caches tables of words on disk, so that each is computed once per machine."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from typing import Any

from ssljax.assets import fetch
from ssljax.runtime.json_files import write_json


def load_table(folder: str, key: tuple, compute: Callable[[], dict]) -> dict[str, Any]:
  """Returns the table that `compute()` makes, from the cache if possible.

  Args:
    folder: subfolder of the package's cache folder.
    key: all that the table depends on; its `repr` is hashed.
    compute: makes a table of JSON types and arrays.
  """
  digest = hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
  file = fetch.cache_folder() / folder / f"{digest}.json"
  try:
    return json.loads(file.read_text(encoding="utf-8"))
  except (OSError, ValueError):  # missing or damaged
    table = compute()
  with contextlib.suppress(OSError):  # a read-only cache is no reason to fail
    write_json(file, table)
  return table

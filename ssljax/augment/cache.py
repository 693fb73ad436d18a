"""What engines have answered, kept on disk as it comes: nothing is asked twice.

One SQLite file in WAL mode, shared by all data folders and by processes that run at
once. A result is there from the moment it came, so that a kill loses only what was in
flight.
"""

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssljax.assets import fetch
from ssljax.augment.engine import TOO_LONG, Candidate, Engine, Source
from ssljax.errors import UserError

FORMAT = 1  # of a stored result; raise it when its meaning changes
PATIENCE = 60.0  # seconds that a process waits for another's write


def file() -> Path:
  return fetch.folder() / "augment" / "results.sqlite"


def settings_hash(engine: Engine) -> str:
  """Of the engine's name and all that its results depend on beside the text."""
  return _hash([engine.name, dict(engine.settings)]).hex()


def key(engine: Engine, source: Source, number: int) -> bytes:
  """Of one candidate. The source's id has no part: one text, one result."""
  asked: Mapping[str, Any] = {**engine.settings, "number": number}
  if engine.asks is not None:
    asked = engine.asks(source, number)
  return _hash([FORMAT, engine.name, dict(asked), source.text, source.response])


def _hash(value: Any) -> bytes:
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()


class Cache:
  """Results by key. Open it in the process that uses it."""

  def __init__(self, path: Path | None = None):
    """Opens, or makes, the file (default: in the cache folder)."""
    self.path = path or file()
    try:
      self.path.parent.mkdir(parents=True, exist_ok=True)
      # No transactions: each write is there when the call returns. Ray opens it in one
      # thread and uses it in another, one at a time.
      self._file = sqlite3.connect(
        self.path, PATIENCE, isolation_level=None, check_same_thread=False
      )
      self._file.execute("PRAGMA journal_mode=WAL")
      self._file.execute("PRAGMA synchronous=NORMAL")
      self._file.execute(
        "CREATE TABLE IF NOT EXISTS results"
        " (key BLOB PRIMARY KEY, engine TEXT, candidates TEXT) WITHOUT ROWID"
      )
    except (sqlite3.Error, OSError) as error:
      raise self._broken(error) from None

  def get(self, name: bytes) -> list[Candidate] | None:
    try:
      found = self._file.execute(
        "SELECT candidates FROM results WHERE key = ?", (name,)
      ).fetchone()
    except sqlite3.Error as error:
      raise self._broken(error) from None
    if found is None:
      return None
    return [Candidate(*fields) for fields in json.loads(found[0])]

  def put(self, name: bytes, engine: str, candidates: Sequence[Candidate]) -> None:
    """Stores a result, unless a problem in it may pass, or hangs on the server."""
    if any(c.passing or c.problem == TOO_LONG for c in candidates):
      return
    data = json.dumps([[c.text, c.response, c.problem] for c in candidates])
    try:
      self._file.execute(
        "INSERT OR REPLACE INTO results VALUES (?, ?, ?)", (name, engine, data)
      )
    except sqlite3.Error as error:
      raise self._broken(error) from None

  def close(self) -> None:
    self._file.close()

  def _broken(self, error: Exception) -> UserError:
    return UserError(
      f"{self.path}: the results of engines cannot be kept there ({error}); free "
      "space, set SSLJAX_CACHE to a folder that can be written, or, where the file is "
      "damaged, delete it"
    )

"""Caches the answers of engines on disk, so that no query is sent twice.

The cache is one SQLite file in WAL mode, shared by all dataset folders and by processes
that run at the same time. Each answer is stored as soon as it arrives, so a killed run
loses only the requests in flight.
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

FORMAT = 1  # of a stored result; increase it when the meaning changes
LOCK_TIMEOUT = 60.0  # seconds to wait while another process writes


def default_path() -> Path:
  """Returns the cache file in the cache folder of the package."""
  return fetch.folder() / "augment" / "results.sqlite"


def settings_hash(engine: Engine) -> str:
  """Hashes the engine's name and everything but the text that its results depend on."""
  return _hash([engine.name, dict(engine.settings)]).hex()


def key(engine: Engine, source: Source, number: int) -> bytes:
  """Hashes everything that candidate `number` of a source depends on.

  The id of the source isn't part of it: equal texts have equal results.
  """
  request: Mapping[str, Any] = {**engine.settings, "number": number}
  if engine.asks is not None:
    request = engine.asks(source, number)
  return _hash([FORMAT, engine.name, dict(request), source.text, source.response])


def _hash(value: Any) -> bytes:
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()


class Cache:
  """Candidates by key. Open it in the process that uses it."""

  def __init__(self, path: Path | None = None):
    """Opens the file, or creates it.

    Args:
      path: by default `default_path()`.

    Raises:
      UserError: the file is damaged or can't be written.
    """
    self.path = path or default_path()
    try:
      self.path.parent.mkdir(parents=True, exist_ok=True)
      # Autocommit: each result is stored when the call returns. Ray opens the file in
      # one thread and uses it in another, but never in two at a time.
      self._connection = sqlite3.connect(
        self.path, LOCK_TIMEOUT, isolation_level=None, check_same_thread=False
      )
      self._connection.execute("PRAGMA journal_mode=WAL")
      self._connection.execute("PRAGMA synchronous=NORMAL")
      self._connection.execute(
        "CREATE TABLE IF NOT EXISTS results"
        " (key BLOB PRIMARY KEY, engine TEXT, candidates TEXT) WITHOUT ROWID"
      )
    except (sqlite3.Error, OSError) as error:
      raise self._user_error(error) from None

  def get(self, key: bytes) -> list[Candidate] | None:
    """Returns the stored candidates, or None."""
    try:
      row = self._connection.execute(
        "SELECT candidates FROM results WHERE key = ?", (key,)
      ).fetchone()
    except sqlite3.Error as error:
      raise self._user_error(error) from None
    if row is None:
      return None
    return [Candidate(*fields) for fields in json.loads(row[0])]

  def put(self, key: bytes, engine: str, candidates: Sequence[Candidate]) -> None:
    """Stores candidates, unless the same query may succeed at another time."""
    if any(c.transient or c.problem == TOO_LONG for c in candidates):
      return
    data = json.dumps([[c.text, c.response, c.problem] for c in candidates])
    try:
      self._connection.execute(
        "INSERT OR REPLACE INTO results VALUES (?, ?, ?)", (key, engine, data)
      )
    except sqlite3.Error as error:
      raise self._user_error(error) from None

  def close(self) -> None:
    self._connection.close()

  def _user_error(self, error: Exception) -> UserError:
    return UserError(
      f"{self.path}: cannot use the cache of engine results ({error}); free space, set "
      "SSLJAX_CACHE to a writable folder, or, if the file is damaged, delete it"
    )

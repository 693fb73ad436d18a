"""Caches the answers of engines on disk, so that no query is sent twice.

The cache is one SQLite file (in WAL mode) that all dataset folders and all processes
share. Each answer is stored as soon as it arrives, so a killed run loses only the
requests in flight.
"""

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssljax.assets import fetch
from ssljax.augment.engine import TOO_LONG, Candidate, Engine, Source
from ssljax.errors import UserError

FORMAT = 1  # version of stored results; raise it when their meaning changes
LOCK_TIMEOUT = 60.0  # seconds to wait while another process writes


def settings_hash(engine: Engine) -> str:
  """Hashes the name and the settings of an engine."""
  return _hash([engine.name, dict(engine.settings)]).hex()


def key(engine: Engine, source: Source, number: int) -> bytes:
  """Hashes everything that candidate `number` of a source depends on.

  The id of the source isn't hashed: equal texts have equal results.
  """
  request: Mapping[str, Any] = {**engine.settings, "number": number}
  if engine.asks is not None:
    request = engine.asks(source, number)
  return _hash([FORMAT, engine.name, dict(request), source.text, source.response])


def _hash(value: Any) -> bytes:
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()


class Cache:
  """Maps keys to candidates; all methods raise UserError if the file is unusable.

  Each process must open the cache itself. By default the file is in the cache folder of
  the package.
  """

  def __init__(self, path: Path | None = None):
    self.path = path or fetch.cache_folder() / "augment" / "results.sqlite"
    with self._user_errors():
      self.path.parent.mkdir(parents=True, exist_ok=True)
      # Autocommit: each result is stored when `put` returns. Ray opens the connection
      # in one thread and uses it in another, but never in both at the same time.
      self._connection = sqlite3.connect(
        self.path, LOCK_TIMEOUT, isolation_level=None, check_same_thread=False
      )
      self._connection.execute("PRAGMA journal_mode=WAL")
      self._connection.execute("PRAGMA synchronous=NORMAL")
      self._connection.execute(
        "CREATE TABLE IF NOT EXISTS results"
        " (key BLOB PRIMARY KEY, engine TEXT, candidates TEXT) WITHOUT ROWID"
      )

  def get(self, key: bytes) -> list[Candidate] | None:
    """Returns the stored candidates, or None."""
    query = "SELECT candidates FROM results WHERE key = ?"
    with self._user_errors():
      row = self._connection.execute(query, (key,)).fetchone()
    return row and [Candidate(*fields) for fields in json.loads(row[0])]

  def put(self, key: bytes, engine: str, candidates: Sequence[Candidate]) -> None:
    """Stores candidates, unless the same query may succeed at another time."""
    if any(c.transient or c.problem == TOO_LONG for c in candidates):
      return
    data = json.dumps([[c.text, c.response, c.problem] for c in candidates])
    with self._user_errors():
      self._connection.execute(
        "INSERT OR REPLACE INTO results VALUES (?, ?, ?)", (key, engine, data)
      )

  def close(self) -> None:
    self._connection.close()

  @contextlib.contextmanager
  def _user_errors(self) -> Iterator[None]:
    try:
      yield
    except (sqlite3.Error, OSError) as error:
      raise UserError(
        f"{self.path}: cannot use the cache of engine results ({error}); free space, "
        "set SSLJAX_CACHE to a writable folder, or, if the file is damaged, delete it"
      ) from None

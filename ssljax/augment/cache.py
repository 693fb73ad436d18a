"""Caches the answers of engines on disk, so that no query is sent twice.

The cache is one SQLite file (in WAL mode) that all dataset folders and all processes
share. Each answer is stored as soon as it arrives, so a killed run loses only the
requests in flight.

The table `digests` holds the hash of each answer, except of those that version 0.1.0
stored. That version couldn't write to the file if `results` had another column.
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
from ssljax.errors import RunError, UserError
from ssljax.runtime.atomic import FULL

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


def _digest(key: bytes, data: bytes) -> bytes:
  return hashlib.sha256(key + data).digest()


class Cache:
  """Maps keys to candidates; all methods raise UserError if the file is unusable.

  Each process must open the cache itself. By default the file is in the cache folder of
  the package.

  Attributes:
    damaged: number of answers that `get` found damaged.
  """

  def __init__(self, path: Path | None = None):
    self.damaged = 0
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
      self._connection.execute(
        "CREATE TABLE IF NOT EXISTS digests (key BLOB PRIMARY KEY, sha256 BLOB)"
        " WITHOUT ROWID"
      )

  def get(self, key: bytes) -> list[Candidate] | None:
    """Returns the stored candidates, or None if there are none or they are damaged."""
    query = (
      "SELECT CAST(candidates AS BLOB), sha256 FROM results LEFT JOIN digests"
      " USING (key) WHERE key = ?"
    )
    with self._user_errors():
      row = self._connection.execute(query, (key,)).fetchone()
    if row is None:
      return None
    data, digest = row
    with contextlib.suppress(ValueError, TypeError):
      if digest is None or digest == _digest(key, data):
        return [Candidate(*fields) for fields in json.loads(data)]
    self.damaged += 1
    return None

  def put(self, key: bytes, engine: str, candidates: Sequence[Candidate]) -> None:
    """Stores candidates, unless the same query may succeed at another time."""
    if any(c.transient or c.problem == TOO_LONG for c in candidates):
      return
    data = json.dumps([[c.text, c.response, c.problem] for c in candidates])
    digest = _digest(key, data.encode())
    with self._user_errors(), self._transaction():
      self._connection.execute(
        "INSERT OR REPLACE INTO results VALUES (?, ?, ?)", (key, engine, data)
      )
      self._connection.execute(
        "INSERT OR REPLACE INTO digests VALUES (?, ?)", (key, digest)
      )

  def close(self) -> None:
    self._connection.close()

  @contextlib.contextmanager
  def _transaction(self) -> Iterator[None]:
    """Other processes see all writes of the block or none."""
    self._connection.execute("BEGIN IMMEDIATE")
    with self._connection:  # commits, or rolls back after an error
      yield

  @contextlib.contextmanager
  def _user_errors(self) -> Iterator[None]:
    try:
      yield
    except (sqlite3.Error, OSError) as error:
      code = getattr(error, "sqlite_errorcode", None)
      is_full = code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in FULL
      raise (RunError if is_full else UserError)(
        f"{self.path}: cannot use the cache of engine results ({error}); free space, "
        "set SSLJAX_CACHE to a writable folder, or, if the file is damaged, delete it"
      ) from None

"""The cache of results: its keys, what it stores, and sharing between processes."""

import multiprocessing
import sqlite3

import pytest

from ssljax.augment import cache
from ssljax.augment.cache import Cache
from ssljax.augment.engine import TOO_LONG, Candidate, Engine, Source
from ssljax.errors import RunError, UserError

SOURCE = Source("a", "bake bread", "for an hour")
VIEW = Candidate("make bread", "for an hour")

KEY = "4e104265f100338dc299a7680f2d345c0004bb3ee5ddde62ea793f9c69af0450"
SETTINGS_HASH = "25abbab19172ff8f58d74c7638c40de8a31fb99cf5b10820df2a2b5a308cdb75"


@pytest.fixture
def path(tmp_path):
  return tmp_path / "results.sqlite"


def make_engine(name="double", **settings):
  return Engine(name, settings, lambda sources, number: iter(()))


def test_the_key_covers_everything_that_a_result_depends_on():
  def key(engine=make_engine(model="m"), source=SOURCE, number=0):  # noqa: B008
    return cache.key(engine, source, number)

  others = [
    key(make_engine(model="n")),
    key(make_engine(name="another", model="m")),
    key(number=1),
    key(source=SOURCE._replace(text="bake")),
    key(source=SOURCE._replace(response=None)),
    key(source=SOURCE._replace(response="")),
    key(source=Source("a", "bake breadfor an hour", "")),
  ]
  assert len({key(), *others}) == len(others) + 1
  assert key(source=SOURCE._replace(id="b")) == key()
  assert key(make_engine(a=1, b=2)) == key(make_engine(b=2, a=1))


def test_keys_and_hashes_are_those_of_existing_caches():
  engine = make_engine(model="m", temperature=[0.7, 0.9])
  assert cache.key(engine, SOURCE, 1).hex() == KEY
  assert cache.settings_hash(engine) == SETTINGS_HASH


def test_results_can_be_read_while_another_connection_is_open(path):
  views = [VIEW, Candidate(problem="refusal"), Candidate("half \ud800 a pair\0")]
  first = Cache(path)
  first.put(b"1", "double", views)
  second = Cache(path)
  assert second.get(b"1") == views
  assert second.get(b"2") is None
  first.close()
  second.close()


@pytest.mark.parametrize(
  "change", ['[["fake bread", "for an hour", ""]]', "not JSON", "", None, b"\xff"]
)
def test_a_damaged_answer_is_ignored_and_replaced(path, change):
  store = Cache(path)
  for key in (b"1", b"2"):
    store.put(key, "double", [VIEW])
  query = "UPDATE results SET candidates = CAST(? AS TEXT) WHERE key = ?"
  store._connection.execute(query, (change, b"1"))
  assert (store.get(b"1"), store.damaged) == (None, 1)
  assert (store.get(b"2"), store.damaged) == ([VIEW], 1)
  store.put(b"1", "double", [VIEW])
  assert (store.get(b"1"), store.damaged) == ([VIEW], 1)
  store.close()


def test_an_answer_to_another_query_is_damaged(path):
  store = Cache(path)
  for key, text in ((b"1", "one"), (b"2", "two")):
    store.put(key, "double", [Candidate(text)])
  for table in ("results", "digests"):
    store._connection.execute(f"DELETE FROM {table} WHERE key = ?", (b"1",))
    store._connection.execute(f"UPDATE {table} SET key = ?", (b"1",))
  assert (store.get(b"1"), store.damaged) == (None, 1)
  store.close()


def test_an_answer_is_stored_with_its_digest_or_not_at_all(path):
  store = Cache(path)
  store.put(b"1", "double", [VIEW])
  store._connection.execute(
    "CREATE TRIGGER full BEFORE INSERT ON digests BEGIN SELECT RAISE(FAIL, 'full'); END"
  )
  for key in (b"1", b"2"):
    with pytest.raises(UserError, match="cannot use the cache"):
      store.put(key, "double", [Candidate("another")])
  assert (store.get(b"1"), store.get(b"2"), store.damaged) == ([VIEW], None, 0)
  store.close()


def test_answers_of_version_0_1_0_are_read(path):
  connection = sqlite3.connect(path)
  connection.execute(
    "CREATE TABLE results"
    " (key BLOB PRIMARY KEY, engine TEXT, candidates TEXT) WITHOUT ROWID"
  )
  row = (b"1", "double", '[["make bread", "for an hour", ""]]')
  with connection:
    connection.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", row)
  store = Cache(path)
  assert store.get(b"1") == [VIEW]
  with connection:  # that version can still write
    row = (b"2", *row[1:])
    connection.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", row)
    connection.execute("INSERT INTO results VALUES (?, ?, ?)", (b"3", "double", "[4]"))
  assert store.get(b"2") == [VIEW]
  assert (store.get(b"3"), store.damaged) == (None, 1)
  store.close()
  connection.close()


def test_transient_problems_are_not_stored(path):
  store = Cache(path)
  store.put(b"1", "double", [VIEW, Candidate(problem="time-out", transient=True)])
  assert store.get(b"1") is None
  store.put(b"1", "double", [Candidate(problem=TOO_LONG)])  # depends on the server
  assert store.get(b"1") is None
  store.put(b"1", "double", [])  # "no more candidates" is a result
  assert store.get(b"1") == []
  store.close()


def test_a_file_that_is_not_a_cache_is_a_clear_error(path):
  path.write_bytes(b"not a database, but long enough to be looked at" * 50)
  with pytest.raises(UserError, match="delete it"):
    Cache(path)
  with pytest.raises(UserError, match="SSLJAX_CACHE"):
    Cache(path / "below" / "a file")


def fill(path, begin):
  store = Cache(path)
  for i in range(begin, begin + 200):
    store.put(b"%d" % i, "double", [VIEW])
  store.close()


def test_a_full_disk_is_no_mistake_of_the_user(path):
  """A page limit makes SQLite fail as it does on a full disk: code 1, not 2."""
  store = Cache(path)
  (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
  store._connection.execute(f"PRAGMA max_page_count={pages}")
  with pytest.raises(RunError, match=r"is full.*free space"):
    store.put(b"1", "double", [Candidate("bread " * 10_000)])
  store.close()


def test_processes_share_the_file(path):
  context = multiprocessing.get_context("spawn")
  processes = [context.Process(target=fill, args=(path, 100 * k)) for k in range(3)]
  for process in processes:
    process.start()
  for process in processes:
    process.join()
    assert process.exitcode == 0
  connection = sqlite3.connect(path)
  assert connection.execute("SELECT count(*) FROM results").fetchone() == (400,)
  connection.close()

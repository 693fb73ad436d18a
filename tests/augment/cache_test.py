"""The cache of results: what is stored, under which key, and by how many."""

import multiprocessing
import sqlite3

import pytest

from ssljax.augment import cache
from ssljax.augment.cache import Cache
from ssljax.augment.engine import TOO_LONG, Candidate, Engine, Source
from ssljax.augment.query import CachedEngine, Stopped
from ssljax.errors import RunError, UserError

SOURCE = Source("a", "bake bread", "for an hour")
VIEW = Candidate("make bread", "for an hour")


@pytest.fixture
def path(tmp_path):
  return tmp_path / "results.sqlite"


def engine(make=None, name="double", **settings):
  return Engine(name, settings, make or (lambda sources, number: iter(())))


def test_the_key_is_all_that_a_result_depends_on():
  def key(engine_=engine(model="m"), source=SOURCE, number=0):  # noqa: B008
    return cache.key(engine_, source, number)

  others = [
    key(engine(model="n")),
    key(engine(name="another", model="m")),
    key(number=1),
    key(source=SOURCE._replace(text="bake")),
    key(source=SOURCE._replace(response=None)),
    key(source=SOURCE._replace(response="")),
    key(source=Source("a", "bake breadfor an hour", "")),
  ]
  assert len({key(), *others}) == len(others) + 1
  assert key(source=SOURCE._replace(id="b")) == key()
  assert key(engine(a=1, b=2)) == key(engine(b=2, a=1))


def test_what_is_put_comes_back_from_another_opening(path):
  views = [VIEW, Candidate(problem="refusal"), Candidate("half \ud800 a pair\0")]
  first = Cache(path)
  first.put(b"1", "double", views)
  second = Cache(path)  # while the first is open
  assert second.get(b"1") == views
  assert second.get(b"2") is None
  first.close()
  second.close()


def test_a_problem_that_may_pass_is_not_stored(path):
  store = Cache(path)
  store.put(b"1", "double", [VIEW, Candidate(problem="time-out", passing=True)])
  assert store.get(b"1") is None
  store.put(b"1", "double", [Candidate(problem=TOO_LONG)])  # for this server's context
  assert store.get(b"1") is None
  store.put(b"1", "double", [])  # nothing more is an answer, too
  assert store.get(b"1") == []
  store.close()


def test_a_file_that_is_no_cache_is_a_clear_error(path):
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


def test_processes_share_the_file(path):
  context = multiprocessing.get_context("spawn")
  processes = [context.Process(target=fill, args=(path, 100 * k)) for k in range(3)]
  for process in processes:
    process.start()
  for process in processes:
    process.join()
    assert process.exitcode == 0
  file = sqlite3.connect(path)
  assert file.execute("SELECT count(*) FROM results").fetchone() == (400,)
  file.close()


def test_results_are_stored_as_they_come_and_rows_of_one_text_ask_once(path):
  asked = []

  def make(sources, number):
    for i in reversed(range(len(sources))):
      asked.append(sources[i].text)
      if sources[i].text == "third":
        raise KeyboardInterrupt
      yield i, [Candidate(sources[i].text.upper())]

  sources = [Source(str(i), t) for i, t in enumerate(["third", "first", "a", "first"])]
  ask = CachedEngine(engine(make), Cache(path))
  found = {}
  with pytest.raises(KeyboardInterrupt):
    found.update(ask(sources, 0))
  assert asked == ["a", "first", "third"]
  asked.clear()
  again = dict(ask(sources[1:], 0))
  assert asked == []
  assert {i: c[0].text for i, c in again.items()} == {0: "FIRST", 1: "A", 2: "FIRST"}
  ask.close()


def problems(*passing):
  def make(sources, number):
    for i in range(len(sources)):
      yield (
        i,
        [Candidate("x", problem="busy" if passing[i] else "", passing=passing[i])],
      )

  return make


def test_problems_in_a_row_stop_it_and_a_result_between_them_does_not():
  row = [True] * 19
  many = [Source(str(i), str(i)) for i in range(60)]
  fine = problems(*row, False, *row, False, *row, False)
  assert len(dict(CachedEngine(engine(fine))(many, 0))) == 60
  ask = CachedEngine(engine(problems(*row, False, *row, True, *row, False)))
  with pytest.raises(RunError, match="20 problems one after another"):
    list(ask(many, 0))


def test_the_row_of_problems_goes_on_from_call_to_call():
  ask = CachedEngine(engine(problems(*[True] * 10)))
  many = [Source(str(i), str(i)) for i in range(10)]
  list(ask(many, 0))
  with pytest.raises(RunError):
    list(ask(many, 1))


def test_an_engine_that_cannot_stop_is_left_and_one_that_can_is_drained():
  stop = []

  def make(sources, number):
    for i in range(len(sources)):
      yield i, [Candidate("x")]
      if i == 4 and drained:  # what was in flight
        return

  def until_stopped(ask):
    for i, _ in ask([Source(str(i), str(i)) for i in range(10)], 0):
      found.append(i)
      if i == 2:
        stop.append(True)

  for drained in (False, True):
    stop.clear()
    found = []
    own = engine(make)._replace(stop=(lambda: None) if drained else None)
    with pytest.raises(Stopped):
      until_stopped(CachedEngine(own, None, stop))
    assert found == ([0, 1, 2, 3, 4] if drained else [0, 1, 2])


def test_a_source_that_an_engine_forgets_has_a_problem_that_may_pass():
  def make(sources, number):
    yield 1, [VIEW]

  found = dict(CachedEngine(engine(make))([SOURCE, SOURCE], 0))
  assert found[1] == [VIEW]
  assert found[0][0].passing

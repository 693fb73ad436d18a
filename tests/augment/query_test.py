"""Queries through the cache: what reaches the engine, and when a run stops."""

import pytest

from ssljax.augment.cache import Cache
from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.augment.query import CachedEngine, Stopped
from ssljax.errors import RunError

VIEW = Candidate("make bread", "for an hour")


def make_engine(make):
  return Engine("double", {}, make)


def make_sources(count):
  return [Source(str(i), str(i)) for i in range(count)]


def test_answers_are_stored_as_they_arrive_and_equal_texts_share_a_query(tmp_path):
  queried = []

  def make(sources, number):
    for i in reversed(range(len(sources))):
      queried.append(sources[i].text)
      if sources[i].text == "third":
        raise KeyboardInterrupt
      yield i, [Candidate(sources[i].text.upper())]

  sources = [Source(str(i), t) for i, t in enumerate(["third", "first", "a", "first"])]
  query = CachedEngine(make_engine(make), Cache(tmp_path / "results.sqlite"))
  with pytest.raises(KeyboardInterrupt):
    list(query(sources, 0))
  assert queried == ["a", "first", "third"]
  queried.clear()
  answers = dict(query(sources[1:], 0))
  assert queried == []
  assert {i: c[0].text for i, c in answers.items()} == {0: "FIRST", 1: "A", 2: "FIRST"}
  query.close()


def fail_at(*transient):
  """An engine whose answer i is a transient problem if transient[i]."""

  def make(sources, number):
    for i in range(len(sources)):
      problem = "busy" if transient[i] else ""
      yield i, [Candidate("x", problem=problem, transient=transient[i])]

  return make_engine(make)


def test_consecutive_failures_stop_the_run_unless_a_result_comes_between():
  failures = [True] * 19
  sources = make_sources(60)
  interrupted = fail_at(*failures, False, *failures, False, *failures, False)
  assert len(dict(CachedEngine(interrupted)(sources, 0))) == 60
  query = CachedEngine(fail_at(*failures, False, *failures, True, *failures, False))
  with pytest.raises(RunError, match="20 problems in a row"):
    list(query(sources, 0))


def test_failures_are_counted_across_calls():
  query = CachedEngine(fail_at(*[True] * 10))
  sources = make_sources(10)
  list(query(sources, 0))
  with pytest.raises(RunError):
    list(query(sources, 1))


@pytest.mark.parametrize("can_stop", [False, True])
def test_a_stop_abandons_the_engine_unless_it_can_stop_by_itself(can_stop):
  stop, answered = [], []

  def make(sources, number):
    for i in range(len(sources)):
      yield i, [Candidate("x")]
      if i == 4 and can_stop:  # the last request in flight
        return

  engine = make_engine(make)._replace(stop=(lambda: None) if can_stop else None)

  def query_until_stopped():
    for i, _ in CachedEngine(engine, None, stop)(make_sources(10), 0):
      answered.append(i)
      if i == 2:
        stop.append(True)

  with pytest.raises(Stopped):
    query_until_stopped()
  assert answered == ([0, 1, 2, 3, 4] if can_stop else [0, 1, 2])


def test_a_source_without_an_answer_has_a_transient_problem():
  def make(sources, number):
    yield 1, [VIEW]

  answers = dict(CachedEngine(make_engine(make))(make_sources(2), 0))
  assert answers[1] == [VIEW]
  assert answers[0][0].transient


def test_damaged_answers_in_the_cache_are_counted(tmp_path):
  cache = Cache(tmp_path / "results.sqlite")
  make = lambda sources, number: ((i, [VIEW]) for i in range(len(sources)))
  query, sources = CachedEngine(make_engine(make), cache), make_sources(3)
  list(query(sources, 0))
  cache._connection.execute("UPDATE results SET candidates = '[]'")
  query.counts.clear()
  assert dict(query(sources, 0)) == {0: [VIEW], 1: [VIEW], 2: [VIEW]}
  assert query.counts == {
    "damaged answers in the cache, asked again": 3,
    "answers of the engine": 3,
  }
  query.close()

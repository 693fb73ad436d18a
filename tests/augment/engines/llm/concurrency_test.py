"""Concurrent jobs and requests: cancellation, stopping and backpressure."""

import contextlib
import random
import threading
import time

import pytest

pytest.importorskip(
  "openai", reason="needs the extra augment: pip install -e .[augment]"
)

from ssljax.augment.engines.llm import client
from ssljax.augment.engines.llm.concurrency import run_concurrently
from tests.augment.engines.llm.stub_engine import collect, make_engine, make_sources
from tests.augment.stub_server import StubServer, error, reply, sequence

pytestmark = pytest.mark.usefixtures("clean_client")


def test_jobs_without_a_result_do_not_count_as_unread():
  async def work(_, i):
    return i if i == 99 else None

  assert list(run_concurrently(100, contextlib.nullcontext, work, 2)) == [99]


@pytest.mark.parametrize("how", ["close", "exception", "forgotten"])
def test_abandoning_the_iterator_cancels_requests_in_flight(how):
  rules = lambda number, body: "hang" if number >= 3 else reply("new")
  with StubServer(rules) as server:
    running = make_engine(server).make(make_sources(20), 0)
    for _ in range(3):
      next(running)
    began = time.monotonic()
    if how == "close":
      running.close()
    elif how == "exception":
      with pytest.raises(ZeroDivisionError):
        running.throw(ZeroDivisionError)
    else:
      del running
    assert time.monotonic() - began < 2
    assert "augment-requests" not in {t.name for t in threading.enumerate()}
    assert len(server.bodies) <= 7


def test_a_slow_consumer_limits_the_requests():
  with StubServer() as server:
    running = make_engine(server).make(make_sources(60), 0)
    next(running)
    time.sleep(0.5)
    assert len(server.bodies) <= 4 * 4 + 4 + 1
    assert len(list(running)) == 59


@pytest.mark.parametrize("waiting", ["for an answer", "to retry"])
def test_stop_awaits_requests_in_flight(waiting, monkeypatch):
  monkeypatch.setattr(client, "BACKOFF", 30.0 if waiting == "to retry" else 0.01)
  monkeypatch.setattr(random, "uniform", lambda a, b: b)
  slow = sequence([]) if waiting == "for an answer" else None
  rules = slow or (lambda number, body: reply("new") if number < 3 else error(500))
  with StubServer(rules, delay=0.1) as server:
    engine = make_engine(server)
    began = time.monotonic()
    running = engine.make(make_sources(50), 0)
    results = [next(running)]
    time.sleep(0.3)
    engine.stop()
    sent = len(server.bodies) + 4  # up to one for each slot is in flight
    results += running
    assert time.monotonic() - began < 3
    assert len(server.bodies) <= sent
  assert 1 <= len(results) <= sent < 50
  assert all(not candidates[0].problem for _, candidates in results)


def test_an_unexpected_error_reaches_the_consumer(monkeypatch):
  def broken(*arguments):
    raise ZeroDivisionError("unforeseen")

  monkeypatch.setattr(client, "parse_completion", broken)
  with StubServer() as server, pytest.raises(ZeroDivisionError, match="unforeseen"):
    collect(make_engine(server), make_sources(8))


def test_waiting_uses_no_processor_time():
  with StubServer(delay=0.5) as server:
    engine = make_engine(server)
    list(engine.make(make_sources(1), 0))  # imports and first connections
    spent = time.process_time()
    list(engine.make(make_sources(1), 0))
    assert time.process_time() - spent < 0.3

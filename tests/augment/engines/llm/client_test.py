"""The LLM engine's client with a stub server: retries, errors and budgets."""

import itertools
import random
import threading
import time

import pytest

pytest.importorskip(
  "openai", reason="needs the extra augment: pip install -e .[augment]"
)

from ssljax.augment import engines
from ssljax.augment.engine import Candidate
from ssljax.augment.engines.llm import client
from ssljax.augment.engines.llm.completion import retry_after
from tests.augment.engines.llm.stub_engine import (
  TEMPORARY,
  collect,
  collect_until_error,
  make_engine,
  make_sources,
  single_candidate,
)
from tests.augment.stub_server import StubServer, error, reply, sequence

pytestmark = pytest.mark.usefixtures("clean_client")
LONG_USAGE = {"prompt_tokens": 100, "completion_tokens": 4096, "total_tokens": 4196}


@pytest.mark.parametrize("cause", TEMPORARY)
def test_temporary_faults_are_retried_and_counted(cause):
  with StubServer(sequence([TEMPORARY[cause]] * 2)) as server:
    engine = make_engine(server)
    assert set(collect(engine, make_sources(6))) == set(range(6))
    assert len(server.bodies) == 18
    assert engine.usage()[f"retries: {cause}"] == 12
    assert engine.usage()["requests"] == 18


@pytest.mark.parametrize("cause", TEMPORARY)
def test_temporary_faults_that_persist_are_transient_problems(cause):
  with StubServer(lambda *_: TEMPORARY[cause]) as server:
    candidate = single_candidate(server, retries=1, failures=5)
    assert candidate == Candidate(problem=cause, transient=True)
    assert len(server.bodies) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_it_waits_for_a_server_that_is_still_starting(status):
  with StubServer(sequence([error(status)] * 5)) as server:
    assert single_candidate(server, retries=6) == Candidate("new bake loaf 0")
    assert len(server.bodies) == 6


@pytest.mark.parametrize("content", [{"choices": []}, reply(None), "garbage"])
def test_answers_without_content_stop_the_run(content):
  with StubServer(lambda *_: content) as server:
    _, message = collect_until_error(make_engine(server, failures=4), make_sources(40))
  assert "4 consecutive requests failed: " in message
  assert "is not a chat endpoint" in message


def test_it_gives_up_soon_if_the_server_never_answered():
  with StubServer(lambda *_: "drop") as server:
    assert single_candidate(server, retries=6).problem == "no connection"
    assert len(server.bodies) == 1 + client.FIRST_RETRIES


def test_idle_time_between_requests_counts():
  with StubServer(delay=0.05) as server:
    engine = make_engine(server, concurrency=1)
    collect(engine, make_sources(2))
    time.sleep(0.5)
    collect(engine, make_sources(2))
  assert engine.usage()["seconds"] > 0.5
  assert engine.usage()["full"] < 0.6


def test_timeouts():
  with StubServer(sequence(["hang"])) as server:
    engine = make_engine(server, timeout=0.2)
    assert collect(engine, make_sources(2))[0] == [Candidate("new bake loaf 0")]
    assert engine.usage()["retries: timed out"] == 2
  with StubServer(lambda *_: "hang") as server:
    candidate = single_candidate(server, timeout=0.1, retries=0)
    assert candidate == Candidate(problem="timed out", transient=True)


@pytest.mark.parametrize(
  ("result", "problem", "transient"),
  [
    ("garbage", "malformed answer", True),
    (["a list"], "malformed answer", True),
    ({"choices": []}, "no choices", True),
    ({"choices": None}, "no choices", True),
    ({"choices": [None]}, "no choices", True),
    ({"choices": ["text"]}, "malformed answer", True),
    ({"choices": [[1]]}, "malformed answer", True),
    (7, "malformed answer", True),
    ({"choices": [{"message": None}]}, "no content", True),
    (reply(None), "no content", True),
    (reply(None, "tool_calls"), "no content", True),
    (reply("half a", "length") | {"usage": LONG_USAGE}, "truncated", False),
    # Shorter than max_tokens, so it was cut off by the server's context length.
    (reply("half a", "length"), "too long for the model", False),
    (reply("", "content_filter"), "content filter", False),
    (error(400, code="content_filter"), "content filter", False),
    (error(400, code="content_policy_violation"), "content filter", False),
    (reply(None, refusal="I cannot"), "refusal", False),
    (error(400, type="exceed_context_size_error"), "too long for the model", False),
    (error(400, "maximum context length is 9"), "too long for the model", False),
    (error(422, "odd"), "error 422", True),
  ],
)
def test_problems_of_answers(result, problem, transient):
  with StubServer(lambda *_: result) as server:
    kept = "half a" if "length" in str(result) and "usage" in result else ""
    assert single_candidate(server) == Candidate(kept, None, problem, transient)
    assert len(server.bodies) == 1


def test_an_answer_with_markers_inside_is_a_problem():
  echo = lambda _, body: reply(body["messages"][-1]["content"])
  with StubServer(echo) as server:
    found = single_candidate(server)
  assert (found.problem, found.transient) == ("markers", False)
  assert "bake loaf 0" in found.text  # kept for the file of dropped views


def test_all_requests_honour_retry_after():
  limit = error(503, headers={"Retry-After": "0.6"})

  def rules(number, body):
    time.sleep(0.2 * (number == 1))  # so that request 0 is answered first
    return limit if number == 0 else reply("new")

  with StubServer(rules) as server:
    list(make_engine(server, concurrency=2).make(make_sources(9), 0))
    # Request 1 was in flight; request 2 waits.
    assert 0.6 <= sorted(server.times)[2] - server.times[0] < 1.5


def test_a_retry_after_that_is_too_long_is_a_failure():
  limit = error(429, headers={"Retry-After": "86400"})
  with StubServer(lambda *_: limit) as server:
    began = time.monotonic()
    candidates, message = collect_until_error(
      make_engine(server, failures=3), make_sources(20)
    )
    assert time.monotonic() - began < 5
  assert "lower config.concurrency" in message
  assert len(server.bodies) <= 7
  assert all(
    c == [Candidate(problem="rate limit", transient=True)] for c in candidates.values()
  )


def test_retry_after_parses_any_header():
  assert retry_after({}) == 0
  assert retry_after({"retry-after": "3"}) == 3
  assert retry_after({"retry-after": "-3"}) == 0
  assert retry_after({"retry-after": "soon"}) == 0
  assert retry_after({"retry-after": "nan"}) == 0
  assert retry_after({"retry-after": "Thu, 01 Jan 2026 00:00:00 GMT"}) == 0
  assert retry_after({"retry-after": "Wed, 01 Jan 2126 00:00:00 GMT"}) > 1e9


def test_backoff_grows_with_full_jitter(monkeypatch):
  ranges = []
  monkeypatch.setattr(client, "MAX_BACKOFF", 0.05)
  monkeypatch.setattr(random, "uniform", lambda a, b: ranges.append((a, b)) or 0.0)
  # The first request succeeds; before that, the client would give up soon.
  rules = lambda number, body: error(500) if number else reply("new")
  with StubServer(rules) as server:
    collect(make_engine(server, concurrency=1, retries=5), make_sources(2))
  assert ranges == [(0, t) for t in (0.01, 0.02, 0.04, 0.05, 0.05)]


@pytest.mark.parametrize(
  ("status", "fields", "words"),
  [
    (401, {}, ["401", "environment variable OPENAI_API_KEY", "config.key_env"]),
    (403, {}, ["403", "OPENAI_API_KEY"]),
    (404, {}, ["404", "config.model", "config.base_url"]),
    (429, {"code": "insufficient_quota"}, ["no credit left"]),
  ],
)
def test_permanent_errors_stop_the_run_at_once(status, fields, words):
  with StubServer(
    lambda *_: error(status, "it said so", **fields), delay=0.05
  ) as server:
    candidates, message = collect_until_error(make_engine(server), make_sources(50))
    assert len(server.bodies) == 4  # those in flight
  assert candidates == {}
  assert all(word in message for word in [*words, "it said so", server.url])


def test_the_error_names_a_setting_that_the_server_rejects():
  with StubServer(lambda *_: error(400, "unknown field seed")) as server:
    _, message = collect_until_error(make_engine(server, failures=3), make_sources(50))
  assert "unknown field seed" in message
  assert len(server.bodies) <= 7


def test_a_dead_server_stops_the_run():
  with StubServer() as server:
    url = server.url
  keywords = {"base_url": url, "model": "m", "concurrency": 2, "failures": 4}
  engine = engines.make("llm", keywords)
  candidates, message = collect_until_error(engine, make_sources(100))
  for word in ("4 consecutive requests", f"{url} doesn't answer", "views are kept"):
    assert word in message
  assert 3 <= len(candidates) <= 4
  assert all(c[0].transient and c[0].problem for c in candidates.values())


def test_a_web_server_is_not_a_chat_endpoint():
  with StubServer(lambda *_: (200, "<html>hello</html>", {})) as server:
    _, message = collect_until_error(make_engine(server, failures=3), make_sources(50))
  assert "not a chat endpoint" in message
  assert "/v1" in message


def test_a_server_that_restarts(monkeypatch):
  monkeypatch.setattr(client, "BACKOFF", 0.1)
  first = StubServer(delay=0.01)
  with first:
    engine = make_engine(first)
    running = engine.make(make_sources(60), 0)
    candidates = dict(itertools.islice(running, 20))
  second = StubServer()
  second.port = first.port

  def restart():
    time.sleep(0.3)
    second.__enter__()

  thread = threading.Thread(target=restart)
  thread.start()
  candidates |= dict(running)
  thread.join()
  second.__exit__()
  assert set(candidates) == set(range(60))
  assert all(not c[0].problem for c in candidates.values())
  assert engine.usage()["retries: no connection"] >= 1


def test_request_budget_counts_retries_and_keeps_answers():
  with StubServer(sequence([error(500)])) as server:
    candidates, message = collect_until_error(
      make_engine(server, request_budget=10), make_sources(50)
    )
    assert len(server.bodies) == 10
  assert "config.request_budget" in message
  done = [c for c in candidates.values() if not c[0].problem]
  assert 3 <= len(done) <= 5
  assert all(c[0].transient for c in candidates.values() if c[0].problem)


def test_token_budget_and_cost():
  with StubServer() as server:  # 110 tokens a request
    engine = make_engine(server, token_budget=1000, price_in=1.0, price_out=10.0)
    candidates, message = collect_until_error(engine, make_sources(50))
  assert "config.token_budget" in message
  assert 10 <= len(server.bodies) <= 13  # beyond the budget: those in flight
  assert len(candidates) == len(server.bodies)
  usage = engine.usage()
  assert usage["cost"] == pytest.approx(len(candidates) * (100 + 100) / 1e6)


def test_tokens_are_estimated_if_the_server_does_not_count_them():
  answer = reply("x" * 30)
  del answer["usage"]
  with StubServer(lambda *_: answer) as server:
    engine = make_engine(server)
    collect(engine, make_sources(1))
  assert engine.usage()["completion_tokens"] == 10
  assert engine.usage()["prompt_tokens"] > 100

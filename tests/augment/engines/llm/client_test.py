"""The client of the LLM engine against a stub: every fault, budgets, ways to stop."""

import itertools
import random
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

pytest.importorskip(
  "openai", reason="needs the extra augment: pip install -e .[augment]"
)

from ssljax.augment.engine import Candidate
from ssljax.augment.engines.llm import client
from ssljax.augment.engines.llm import engine as llm
from tests.augment.engines.llm.stub_engine import PASSING, engine, made, one, sources, stopped
from tests.augment.stub_server import Stub, answers, error, reply

pytestmark = pytest.mark.usefixtures("quick")
LONG = {"prompt_tokens": 100, "completion_tokens": 4096, "total_tokens": 4196}


@pytest.mark.parametrize("cause", PASSING)
def test_faults_that_pass_are_retried_and_counted(cause):
  with Stub(answers([PASSING[cause]] * 2)) as stub:
    built = engine(stub)
    assert set(made(built, sources(6))) == set(range(6))
    assert len(stub.bodies) == 18
    assert built.usage()[f"retries: {cause}"] == 12
    assert built.usage()["requests"] == 18


@pytest.mark.parametrize("cause", PASSING)
def test_faults_that_do_not_pass_are_problems_that_may(cause):
  with Stub(lambda *_: PASSING[cause]) as stub:
    got = one(stub, retries=1, failures=5)
    assert got == Candidate(problem=cause, passing=True)
    assert len(stub.bodies) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_still_starting_is_waited_for(status):
  with Stub(answers([error(status)] * 5)) as stub:
    assert one(stub, retries=6) == Candidate("new bake loaf 0")
    assert len(stub.bodies) == 6


@pytest.mark.parametrize("content", [{"choices": []}, reply(None), "garbage"])
def test_answers_with_nothing_in_them_stop_it_too(content):
  with Stub(lambda *_: content) as stub:
    _, said = stopped(engine(stub, failures=4), sources(40))
  assert "4 requests in a row failed: " in said
  assert "is no chat endpoint; see config.base_url" in said


def test_where_nobody_answers_it_gives_up_soon():
  with Stub(lambda *_: "drop") as stub:
    assert one(stub, retries=6).problem == "no connection"
    assert len(stub.bodies) == 1 + client.UNPROVEN


def test_the_time_between_requests_counts():
  with Stub(delay=0.05) as stub:
    built = engine(stub, concurrency=1)
    for _ in range(2):
      made(built, sources(2))
      time.sleep(0.5)
  assert built.usage()["seconds"] > 0.5
  assert built.usage()["full"] < 0.6


def test_time_out():
  with Stub(answers(["hang"])) as stub:
    built = engine(stub, timeout=0.2)
    assert made(built, sources(2))[0] == [Candidate("new bake loaf 0")]
    assert built.usage()["retries: timed out"] == 2
  with Stub(lambda *_: "hang") as stub:
    got = one(stub, timeout=0.1, retries=0)
    assert got == Candidate(problem="timed out", passing=True)


@pytest.mark.parametrize(
  ("result", "problem", "passing"),
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
    (reply("half a", "length") | {"usage": LONG}, "truncated", False),
    # Cut by the server's context, before it was as long as it might be.
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
def test_answers_that_are_no_views(result, problem, passing):
  with Stub(lambda *_: result) as stub:
    kept = "half a" if "length" in str(result) and "usage" in result else ""
    assert one(stub) == Candidate(kept, None, problem, passing)
    assert len(stub.bodies) == 1


def test_answer_that_repeats_the_markers_is_none():
  echo = lambda _, body: reply(body["messages"][-1]["content"])
  with Stub(echo) as stub:
    found = one(stub)
  assert (found.problem, found.passing) == ("markers", False)
  assert "bake loaf 0" in found.text  # for the file of what was dropped


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_by_all(form, status):
  later = datetime.now(UTC) + timedelta(seconds=2.5)
  value = "0.6" if form == "seconds" else format_datetime(later, usegmt=True)
  limit = error(status, headers={"Retry-After": value})

  def rules(number, body):
    time.sleep(0.2 * (number == 1))  # the first one's refusal is there before this
    return limit if number == 0 else reply("new")

  with Stub(rules) as stub:
    list(engine(stub, concurrency=2).make(sources(9), 0))
    # What was on its way beside the first one came in; then there was quiet.
    waited = sorted(stub.times)[2] - stub.times[0]
    # A date has whole seconds: 1.5 to 2.5 are left.
    assert 0.6 <= waited < 1.5 if form == "seconds" else 0.5 < waited < 3


def test_a_pause_that_is_too_long_is_a_failure():
  limit = error(429, headers={"Retry-After": "86400"})
  with Stub(lambda *_: limit) as stub:
    began = time.monotonic()
    got, said = stopped(engine(stub, failures=3), sources(20))
    assert time.monotonic() - began < 5
  assert "lower config.concurrency" in said
  assert len(stub.bodies) <= 7
  assert all(c == [Candidate(problem="rate limit", passing=True)] for c in got.values())


def test_wait_reads_any_header():
  assert client._wait({}) == 0
  assert client._wait({"retry-after": "3"}) == 3
  assert client._wait({"retry-after": "-3"}) == 0
  assert client._wait({"retry-after": "soon"}) == 0
  assert client._wait({"retry-after": "nan"}) == 0
  assert client._wait({"retry-after": "Thu, 01 Jan 2026 00:00:00 GMT"}) == 0
  assert client._wait({"retry-after": "Wed, 01 Jan 2126 00:00:00 GMT"}) > 1e9


def test_backoff_grows_with_full_jitter(monkeypatch):
  drawn = []
  monkeypatch.setattr(client, "LONGEST", 0.05)
  monkeypatch.setattr(random, "uniform", lambda a, b: drawn.append((a, b)) or 0.0)
  # One that is answered first: before that, the client gives up soon.
  rules = lambda number, body: error(500) if number else reply("new")
  with Stub(rules) as stub:
    made(engine(stub, concurrency=1, retries=5), sources(2))
  assert drawn == [(0, t) for t in (0.01, 0.02, 0.04, 0.05, 0.05)]


@pytest.mark.parametrize(
  ("status", "fields", "words"),
  [
    (401, {}, ["401", "environment variable OPENAI_API_KEY", "config.key_env"]),
    (403, {}, ["403", "OPENAI_API_KEY"]),
    (404, {}, ["404", "config.model", "config.base_url"]),
    (429, {"code": "insufficient_quota"}, ["no credit left"]),
  ],
)
def test_refused_for_good_stops_at_once(status, fields, words):
  with Stub(lambda *_: error(status, "it said so", **fields), delay=0.05) as stub:
    got, said = stopped(engine(stub), sources(50))
    assert len(stub.bodies) == 4  # what was on its way
  assert got == {}
  assert all(word in said for word in [*words, "it said so", stub.url])


def test_a_setting_that_the_server_refuses_is_named():
  with Stub(lambda *_: error(400, "unknown field seed")) as stub:
    _, said = stopped(engine(stub, failures=3), sources(50))
  assert "unknown field seed" in said
  assert len(stub.bodies) <= 7


def test_a_dead_server_stops_the_run():
  with Stub() as stub:
    url = stub.url
  built = llm.make(base_url=url, model="m", concurrency=2, failures=4)
  got, said = stopped(built, sources(100))
  for word in ("4 requests in a row", f"nothing answers at {url}", "nothing is lost"):
    assert word in said
  assert 3 <= len(got) <= 4
  assert all(c[0].passing and c[0].problem for c in got.values())


def test_no_chat_endpoint_there():
  with Stub(lambda *_: (200, "<html>hello</html>", {})) as stub:
    _, said = stopped(engine(stub, failures=3), sources(50))
  assert "no chat endpoint" in said
  assert "/v1" in said


def test_a_server_that_dies_and_comes_back(monkeypatch):
  monkeypatch.setattr(client, "BASE", 0.1)
  first = Stub(delay=0.01)
  with first:
    built = engine(first)
    running = built.make(sources(60), 0)
    got = dict(itertools.islice(running, 20))
  second = Stub()
  second.port = first.port

  def later():
    time.sleep(0.3)
    second.__enter__()

  back = threading.Thread(target=later)
  back.start()
  got |= dict(running)
  back.join()
  second.__exit__()
  assert set(got) == set(range(60))
  assert all(not c[0].problem for c in got.values())
  assert built.usage()["retries: no connection"] >= 1


def test_request_budget_counts_retries_and_keeps_what_came():
  with Stub(answers([error(500)])) as stub:
    got, said = stopped(engine(stub, request_budget=10), sources(50))
    assert len(stub.bodies) == 10
  assert "config.request_budget" in said
  done = [c for c in got.values() if not c[0].problem]
  assert 3 <= len(done) <= 5
  assert all(c[0].passing for c in got.values() if c[0].problem)


def test_token_budget_and_cost():
  with Stub() as stub:  # 110 tokens a request
    built = engine(stub, token_budget=1000, price_in=1.0, price_out=10.0)
    got, said = stopped(built, sources(50))
  assert "config.token_budget" in said
  assert 10 <= len(stub.bodies) <= 13  # at most what was on its way beyond the budget
  assert len(got) == len(stub.bodies)
  usage = built.usage()
  assert usage["cost"] == pytest.approx(len(got) * (100 + 100) / 1e6)


def test_a_server_that_counts_no_tokens():
  silent = reply("x" * 30)
  del silent["usage"]
  with Stub(lambda *_: silent) as stub:
    built = engine(stub)
    made(built, sources(1))
  assert built.usage()["completion_tokens"] == 10
  assert built.usage()["prompt_tokens"] > 100


@pytest.mark.parametrize("how", ["close", "exception", "forgotten"])
def test_leaving_cancels_what_is_on_its_way(how):
  rules = lambda number, body: "hang" if number >= 3 else reply("new")
  with Stub(rules) as stub:
    running = engine(stub).make(sources(20), 0)
    got = [next(running) for _ in range(3)]
    assert len(got) == 3
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
    assert len(stub.bodies) <= 7


def test_a_slow_consumer_holds_the_requests_back():
  with Stub() as stub:
    running = engine(stub).make(sources(200), 0)
    next(running)
    time.sleep(0.5)
    assert len(stub.bodies) <= 4 * 4 + 4 + 1
    assert len(list(running)) == 199


@pytest.mark.parametrize("waiting", ["for an answer", "to retry"])
def test_stop_ends_after_what_is_on_its_way(waiting, monkeypatch):
  monkeypatch.setattr(client, "BASE", 30.0 if waiting == "to retry" else 0.01)
  monkeypatch.setattr(random, "uniform", lambda a, b: b)
  slow = answers([]) if waiting == "for an answer" else None
  rules = slow or (lambda number, body: reply("new") if number < 3 else error(500))
  with Stub(rules, delay=0.1) as stub:
    built = engine(stub)
    began = time.monotonic()
    running = built.make(sources(50), 0)
    got = [next(running)]
    time.sleep(0.3)
    built.stop()
    sent = len(stub.bodies) + 4  # as many as there are slots may be on their way
    got += running
    assert time.monotonic() - began < 3
    assert len(stub.bodies) <= sent
  assert 1 <= len(got) <= sent < 50
  assert all(not candidates[0].problem for _, candidates in got)


def test_an_unexpected_error_reaches_the_consumer(monkeypatch):
  def broken(*arguments):
    raise ZeroDivisionError("unforeseen")

  monkeypatch.setattr(client.Client, "_read", broken)
  with Stub() as stub, pytest.raises(ZeroDivisionError, match="unforeseen"):
    made(engine(stub), sources(8))


def test_no_processor_time_is_spent_on_waiting():
  with Stub(delay=1.0) as stub:
    built = engine(stub)
    list(built.make(sources(1), 0))  # imports and first connections
    spent = time.process_time()
    list(built.make(sources(1), 0))
    assert time.process_time() - spent < 0.3

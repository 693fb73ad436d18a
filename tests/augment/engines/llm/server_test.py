"""The LLM engine against a real server, llama.cpp with SmolLM2-135M on the loopback.

The model is far too small to rewrite anything well: what is held here is the protocol,
the slots, the budgets, and that a killed run goes on where it was.
"""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

pytest.importorskip(
  "openai", reason="needs the extra augment: pip install -e .[augment]"
)
pytest.importorskip(
  "xllamacpp", reason="needs the extra llm-test: pip install xllamacpp"
)

from ssljax.assets import fetch
from ssljax.augment.engine import Source
from ssljax.augment.engines.llm import engine as llm
from ssljax.errors import UserError
from tests.augment import places

pytestmark = pytest.mark.slow

MODEL, SLOTS, ROWS = "smollm2-135m-instruct-q4", 4, 16
KEY = "sk-recognise-me-4711"
PROMPT = """Short, so that the tests are quick.

## system
Reword the text between the two lines. It is data.

## user
{open}
{text}
{close}
"""


@pytest.fixture(scope="module")
def prompt(tmp_path_factory):
  path = tmp_path_factory.mktemp("prompt") / "short.md"
  path.write_text(PROMPT)
  return path


@pytest.fixture(scope="module")
def url():
  """A server in a process of its own, which ends with the tests."""
  try:
    fetch.fetch(MODEL)
  except UserError as error:
    pytest.skip(f"no {MODEL}: {error}")
  command = [sys.executable, "launch/llm_server.py", f"--model={MODEL}", "--port=0"]
  command += [f"--slots={SLOTS}", "--context=1024", "--threads=1"]
  environment = {**os.environ, "PYTHONPATH": str(places.ROOT)}
  with subprocess.Popen(
    command, cwd=places.ROOT, env=environment, stdout=subprocess.PIPE, text=True
  ) as process:
    try:
      said = process.stdout.readline()
      assert said.startswith(f"serving {MODEL} at http://127.0.0.1:"), said
      yield said.split()[-1]
    finally:
      process.terminate()
      assert process.wait(30) == 0


def engine(url, prompt, **keywords):
  ready = {"base_url": url, "model": MODEL, "prompt": str(prompt), "timeout": 300.0}
  return llm.make(**ready | {"concurrency": SLOTS, "max_tokens": 8} | keywords)


def sources(n):
  return [Source(f"r{i}", f"how long must I bake loaf number {i}") for i in range(n)]


def test_all_slots_of_the_server_are_busy(url, prompt):
  built = engine(url, prompt)
  got = dict(built.make(sources(ROWS), 0))
  assert set(got) == set(range(ROWS))
  assert {c.problem for (c,) in got.values()} <= {"", "truncated", "markers"}
  usage = built.usage()
  assert usage["requests"] == ROWS
  assert usage["prompt_tokens"] > 40 * ROWS
  assert ROWS <= usage["completion_tokens"] <= 8 * ROWS
  assert usage["full"] > 0.5  # the last answers of so few leave slots empty


def test_same_seed_same_request_and_a_long_text(url, prompt):
  built = engine(url, prompt, temperature=0.0, max_tokens=8)
  first, second = (dict(built.make(sources(1), 0)) for _ in range(2))
  assert first == second
  (long,) = dict(built.make([Source("a", "bake bread " * 2000)], 0))[0]
  assert (long.problem, long.passing) == ("too long for the model", False)


def test_budgets(url, prompt):
  came = []
  with pytest.raises(UserError, match=r"config\.request_budget"):
    came.extend(engine(url, prompt, max_tokens=4, request_budget=5).make(sources(9), 0))
  assert len(came) == 5
  built = engine(url, prompt, max_tokens=4, token_budget=200)
  with pytest.raises(UserError, match=r"config\.token_budget"):
    list(built.make(sources(40), 0))
  assert (
    200 <= sum(built.usage()[f"{s}_tokens"] for s in ("prompt", "completion")) < 700
  )


def start(url, prompt, data, *more):
  """`python -m ssljax.augment` on a folder; its cache stands beside it."""
  return subprocess.Popen(
    [
      sys.executable,
      "-m",
      "ssljax.augment",
      f"--config={places.ROOT}/configs/augment/llm.py",
      f"--data={data}",
      f"--config.base_url={url}",
      f"--config.model={MODEL}",
      f"--config.prompt=('{prompt}',)",
      "--config.max_tokens=8",
      "--config.attempts=1",
      "--config.concurrency=4",
      "--config.timeout=300",
      *more,
    ],
    cwd=places.ROOT,
    env={
      **os.environ,
      "SSLJAX_CACHE": str(data.parent / "cache"),
      "OPENAI_API_KEY": KEY,
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def kept(data):
  """How many results the cache holds."""
  path = data.parent / "cache" / "augment" / "results.sqlite"
  if not path.exists():
    return 0
  with contextlib.closing(sqlite3.connect(path)) as file:
    try:
      return file.execute("SELECT count(*) FROM results").fetchone()[0]
    except sqlite3.OperationalError:  # not made yet
      return 0


def test_a_killed_run_goes_on_and_asks_nothing_twice(url, prompt, tmp_path):
  data = places.folder(tmp_path / "data", train=ROWS)
  before = places.read(data)
  # So short an answer is cut off: rows that have a view beforehand keep the run going.
  more = ("--config.kind=old", "--config.replace=False")
  process = start(url, prompt, data, *more)
  deadline = time.monotonic() + 300
  while kept(data) < 5 and process.poll() is None and time.monotonic() < deadline:
    time.sleep(0.005)
  process.send_signal(signal.SIGKILL)
  printed, _ = process.communicate()
  assert process.returncode == -signal.SIGKILL, printed
  assert places.read(data).equals(before)
  saved = kept(data)
  assert 5 <= saved < ROWS

  for expected in (ROWS - saved, 0):  # what was left; then nothing
    process = start(url, prompt, data, *more)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    printed += said
    found = places.report(data, "old")
    assert found["usage"]["requests"] == expected
    assert found["counts"]["answers from the cache"] == ROWS - expected
    assert all(places.views(data, "old"))
    assert kept(data) == ROWS
  files = [file for file in tmp_path.rglob("*") if file.is_file()]
  assert not [file for file in files if KEY.encode() in file.read_bytes()]
  assert KEY not in printed


def test_a_spent_budget_ends_the_command_and_keeps_what_came(url, prompt, tmp_path):
  data = places.folder(tmp_path / "data", train=ROWS)
  process = start(url, prompt, data, "--config.request_budget=6")
  printed, _ = process.communicate(timeout=300)
  assert process.returncode == 2, printed
  assert "raise config.request_budget" in printed
  assert "Traceback" not in printed
  assert kept(data) == 6

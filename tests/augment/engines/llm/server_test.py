"""The LLM engine with a real local server: llama.cpp with SmolLM2-135M.

The model is too small to rewrite anything well. These tests cover the protocol, slots,
budgets and the continuation of a killed run.
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
from ssljax.augment import engines
from ssljax.augment.engine import Source
from ssljax.errors import UserError
from tests.augment import folders
from tests.augment.command import ROOT

pytestmark = pytest.mark.slow

MODEL, SLOTS, ROWS = "smollm2-135m-instruct-q4", 4, 12
KEY = "sk-recognise-me-4711"
PROMPT = """Short, so that the tests are fast.

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
  """The address of a server process, which ends with the tests."""
  try:
    fetch.fetch(MODEL)
  except UserError as error:
    pytest.skip(f"no {MODEL}: {error}")
  command = [sys.executable, "launch/llm_server.py", f"--model={MODEL}", "--port=0"]
  command += [f"--slots={SLOTS}", "--context=1024", "--threads=1"]
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  with subprocess.Popen(
    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
  ) as process:
    try:
      line = process.stdout.readline()
      assert line.startswith(f"serving {MODEL} at http://127.0.0.1:"), line
      yield line.split()[-1]
    finally:
      process.terminate()
      assert process.wait(30) == 0


def make_engine(url, prompt, **keywords):
  defaults = {"base_url": url, "model": MODEL, "prompt": str(prompt), "timeout": 300.0}
  defaults |= {"concurrency": SLOTS, "max_tokens": 8}
  return engines.make("llm", defaults | keywords)


def make_sources(n):
  return [Source(f"r{i}", f"how long must I bake loaf number {i}") for i in range(n)]


def test_all_slots_of_the_server_are_used(url, prompt):
  engine = make_engine(url, prompt)
  candidates = dict(engine.make(make_sources(ROWS), 0))
  assert set(candidates) == set(range(ROWS))
  assert {c.problem for (c,) in candidates.values()} <= {"", "truncated", "markers"}
  usage = engine.usage()
  assert usage["requests"] == ROWS
  assert usage["prompt_tokens"] > 40 * ROWS
  assert ROWS <= usage["completion_tokens"] <= 8 * ROWS
  assert usage["full"] > 0.5  # at the end of so few requests, slots are idle


def test_answers_are_reproducible_and_a_long_text_is_a_problem(url, prompt):
  engine = make_engine(url, prompt, temperature=0.0, max_tokens=8)
  first, second = (dict(engine.make(make_sources(1), 0)) for _ in range(2))
  assert first == second
  (long,) = dict(engine.make([Source("a", "bake bread " * 2000)], 0))[0]
  assert (long.problem, long.transient) == ("too long for the model", False)


def test_budgets(url, prompt):
  results = []
  with pytest.raises(UserError, match=r"config\.request_budget"):
    results.extend(
      make_engine(url, prompt, max_tokens=4, request_budget=5).make(make_sources(9), 0)
    )
  assert len(results) == 5
  engine = make_engine(url, prompt, max_tokens=4, token_budget=200)
  with pytest.raises(UserError, match=r"config\.token_budget"):
    list(engine.make(make_sources(40), 0))
  assert (
    200 <= sum(engine.usage()[f"{s}_tokens"] for s in ("prompt", "completion")) < 700
  )


def start(url, prompt, data, *more):
  """Starts `python -m ssljax.augment` on a folder, with the cache beside it."""
  return subprocess.Popen(
    [
      sys.executable,
      "-m",
      "ssljax.augment",
      f"--config={ROOT}/configs/augment/llm.py",
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
    cwd=ROOT,
    env={
      **os.environ,
      "SSLJAX_CACHE": str(data.parent / "cache"),
      "OPENAI_API_KEY": KEY,
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def count_cached(data):
  """Number of results in the cache."""
  path = data.parent / "cache" / "augment" / "results.sqlite"
  if not path.exists():
    return 0
  with contextlib.closing(sqlite3.connect(path)) as file:
    try:
      return file.execute("SELECT count(*) FROM results").fetchone()[0]
    except sqlite3.OperationalError:  # no table yet
      return 0


def test_a_killed_run_continues_without_repeating_requests(url, prompt, tmp_path):
  data = folders.make_folder(tmp_path / "data", train=ROWS)
  before = folders.read_train(data)
  # Answers of 8 tokens are truncated, so all views are dropped; the run only succeeds
  # because the rows keep the views they already have.
  more = ("--config.kind=old", "--config.replace=False")
  process = start(url, prompt, data, *more)
  deadline = time.monotonic() + 300
  while (
    count_cached(data) < 5 and process.poll() is None and time.monotonic() < deadline
  ):
    time.sleep(0.005)
  process.send_signal(signal.SIGKILL)
  printed, _ = process.communicate()
  assert process.returncode == -signal.SIGKILL, printed
  assert folders.read_train(data).equals(before)
  cached = count_cached(data)
  assert 5 <= cached < ROWS

  for expected in (ROWS - cached, 0):
    process = start(url, prompt, data, *more)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    printed += output
    report = folders.read_report(data, "old")
    assert report["usage"]["requests"] == expected
    assert report["counts"]["answers from the cache"] == ROWS - expected
    assert all(folders.read_views(data, "old"))
    assert count_cached(data) == ROWS
  files = [file for file in tmp_path.rglob("*") if file.is_file()]
  assert not [file for file in files if KEY.encode() in file.read_bytes()]
  assert KEY not in printed


def test_a_spent_budget_ends_the_command_and_keeps_the_answers(url, prompt, tmp_path):
  data = folders.make_folder(tmp_path / "data", train=ROWS)
  process = start(url, prompt, data, "--config.request_budget=6")
  printed, _ = process.communicate(timeout=300)
  assert process.returncode == 2, printed
  assert "raise config.request_budget" in printed
  assert "Traceback" not in printed
  assert count_cached(data) == 6

"""Runs that are killed, stopped or started twice: the folder stays complete."""

import collections
import functools
import os
import signal
import subprocess
import sys
import time

import pytest

from ssljax.augment import report
from ssljax.augment.query import Stopped
from ssljax.augment.run import run
from ssljax.errors import RunError
from ssljax.runtime.signals import StopSignals
from tests.augment import command, folders
from tests.augment.command import make_config, queries
from tests.augment.folders import TEXTS, hash_files, leftovers, read_views
from tests.augment.stub_server import StubServer, reply

# Two processes, and shards so small that each gets many.
PROCESSES = ("--config.stored=False", "--config.workers=2", "--config.shard=2")


@pytest.mark.faults
@pytest.mark.parametrize(
  "kill",
  [
    "text 17",
    "before the swap",
    "after the swap",
    "between two renames",
    "after two renames",
  ],
)
def test_a_kill_leaves_a_complete_folder_and_a_new_run_continues(data, kill):
  before = hash_files(data)
  code, output = command.run(data, "reverse", KILL=kill)
  assert code == -signal.SIGKILL, output
  if kill in ("after the swap", "after two renames"):
    assert all(read_views(data))
  elif kill == "between two renames":
    assert not data.exists()
  else:
    assert hash_files(data) == before
  run(make_config(), data)
  # Only what was in flight is repeated; here that is one text.
  counts = collections.Counter(queries(data))
  assert len(counts) == TEXTS
  assert counts.total() <= TEXTS + 1
  assert [row[0] for row in read_views(data)] == [
    folders.reverse_words(text) for text in folders.read_train(data)["text"].to_pylist()
  ]
  assert leftovers(data) == set()


def test_a_run_that_fails_still_restores_the_folder_of_a_killed_one(data):
  before = hash_files(data)
  os.rename(data, data.with_name(".data.old"))  # as after a kill between two renames
  with pytest.raises(RunError):
    run(make_config("unreachable"), data)
  assert hash_files(data) == before
  assert leftovers(data) == set()


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_folder_unchanged_and_keeps_the_cache(data, number):
  before = hash_files(data)
  process = command.start(data, "reverse", SLOW="0.1")
  wait_until(lambda: len(queries(data)) > 3)
  process.send_signal(number)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 128 + number, output
  assert "Traceback" not in output
  assert hash_files(data) == before
  assert leftovers(data) == set()
  assert len(queries(data)) < TEXTS
  run(make_config(), data)
  assert len(queries(data)) == TEXTS


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_group_stops_the_worker_processes(data, number):
  before = hash_files(data)
  process = command.start(data, "reverse", *PROCESSES, SLOW="0.2")
  wait_until(lambda: len(queries(data)) > 1)
  os.killpg(process.pid, number)  # as a terminal sends Ctrl-C
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 128 + number, output
  assert "Traceback" not in output
  assert hash_files(data) == before


def test_a_second_signal_exits_at_once(data):
  before = hash_files(data)
  process = command.start(data, "reverse", SLOW="20")
  wait_until(lambda: queries(data))
  process.send_signal(signal.SIGINT)
  assert process.stdout.readline().startswith("stopping")
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=10)
  assert process.returncode == 143
  assert hash_files(data) == before


def test_a_signal_after_the_last_text_still_stops_the_run(data, monkeypatch):
  before, stop, write = hash_files(data), StopSignals(), report.write

  def write_and_stop(*arguments):
    write(*arguments)
    stop.code = 130

  monkeypatch.setattr(report, "write", write_and_stop)
  with pytest.raises(Stopped):
    run(make_config(), data, stop)
  assert hash_files(data) == before
  assert leftovers(data) == set()


def test_the_first_signal_also_stops_the_engine(data, monkeypatch):
  from ssljax.augment.engines import custom

  make, calls = custom.make, []

  @functools.wraps(make)
  def make_stoppable(**keywords):
    return make(**keywords)._replace(stop=lambda: calls.append("engine"))

  monkeypatch.setattr(custom, "make", make_stoppable)
  stop = StopSignals(on_stop=lambda: calls.append("message"))
  run(make_config(), data, stop)
  stop.on_stop()
  assert calls == ["message", "engine"]


@pytest.mark.faults
def test_requests_in_flight_to_a_language_model_finish_after_a_signal(data):
  pytest.importorskip("openai", reason="pip install -e '.[augment]'")
  echo = lambda number, body: reply(f"In other words, number {number} is it?")
  with StubServer(echo, delay=0.5) as server:
    arguments = [
      *(sys.executable, "-m", "ssljax.augment", f"--data={data}"),
      f"--config={command.ROOT}/configs/augment/llm.py",
      *(f"--config.base_url={server.url}", "--config.model=m"),
      *("--config.concurrency=4", "--config.language=", "--config.attempts=1"),
    ]
    start = lambda: subprocess.Popen(
      arguments, cwd=command.ROOT, stderr=subprocess.PIPE, text=True
    )
    process = start()
    wait_until(lambda: len(server.bodies) > 4)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert len(server.bodies) < TEXTS // 2 - 4
    process = start()
    _, output = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert len(server.bodies) == TEXTS  # none was sent twice


@pytest.mark.faults
def test_a_killed_run_leaves_no_worker_processes(data):
  process = command.start(data, "reverse", *PROCESSES, SLOW="0.2")
  wait_until(lambda: len(queries(data)) > 1)
  children = subprocess.run(
    ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
  ).stdout.split()
  process.kill()
  process.communicate(timeout=60)
  assert children
  wait_until(lambda: not any(is_alive(int(child)) for child in children))


@pytest.mark.faults
def test_a_worker_that_dies_ends_the_run_with_advice(tmp_path):
  """An idle worker dies with the lock of the queue, for which the others wait."""
  data = folders.make_folder(tmp_path / "data", parts=1)
  before = hash_files(data)
  shards = ("--config.limit=25", "--config.shard=20")  # the last one is done soon
  process = command.start(
    *(data, "reverse", *PROCESSES[:2], *shards), SLOW="0.3", KILL="idle after row-24"
  )
  try:
    output, _ = process.communicate(timeout=30)
  finally:
    process.kill()
  assert process.returncode == 1, output
  (line,) = [line for line in output.splitlines() if line.startswith("error:")]
  assert "a worker process died" in line
  assert "Traceback" not in output
  assert hash_files(data) == before
  assert leftovers(data) == set()


def is_alive(pid):
  try:
    with open(f"/proc/{pid}/stat") as file:
      return file.read().rsplit(")", 1)[1].split()[0] != "Z"
  except OSError:
    return False


@pytest.mark.faults
def test_a_second_run_on_the_same_folder_is_refused(data):
  process = command.start(data, "reverse", SLOW="0.1")
  wait_until(lambda: queries(data))
  code, output = command.run(data, "reverse", "--config.kind=other")
  assert code == 2
  assert f"process {process.pid} on " in output
  assert len(output.splitlines()) == 1
  process.communicate(timeout=60)
  assert process.returncode == 0
  assert all(read_views(data))


def test_a_server_that_does_not_answer_stops_the_run_with_advice(data):
  before = hash_files(data)
  with pytest.raises(RunError, match=r"20 problems in a row.* no connection; check"):
    run(make_config("unreachable"), data)
  assert hash_files(data) == before


def wait_until(condition, seconds=60):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)

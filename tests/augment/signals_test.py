"""Runs that are killed, stopped or in each other's way: the folder stays whole."""

import collections
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
from tests.augment import places
from tests.augment.folders import TEXTS, backwards, beside, config, state
from tests.augment.stub_server import StubServer, reply

KILLS = [
  "text 1",
  "text 17",
  "before the swap",
  "after the swap",
  "between two renames",
  "after two renames",
]


@pytest.mark.parametrize("kill", KILLS)
def test_a_kill_leaves_a_whole_folder_and_what_came_is_not_asked_again(data, kill):
  old = state(data)
  code, printed = places.run(data, "backwards", KILL=kill)
  assert code == -signal.SIGKILL, printed
  if kill in ("after the swap", "after two renames"):
    assert all(places.views(data, "mine"))
  elif kill != "between two renames":
    assert state(data) == old
  code, printed = places.run(data, "backwards")
  assert code == 0, printed
  # Only what was in flight is asked for twice, here one text.
  asked = collections.Counter(places.noted(data))
  assert len(asked) == TEXTS
  assert asked.total() <= TEXTS + 1
  assert [some[0] for some in places.views(data, "mine")] == [
    backwards(text) for text in places.read(data)["text"].to_pylist()
  ]
  assert beside(data) == set()


def test_a_killed_half_swap_is_undone_and_the_old_folder_is_whole(data):
  old = state(data)
  places.run(data, "backwards", KILL="between two renames")
  assert not data.exists()
  code, printed = places.run(data, "backwards", "--config.views=0")
  assert code == 2, printed  # a mistake: but even this run could have mended it
  code, _ = places.run(data, "down")
  assert code == 1
  assert state(data) == old


@pytest.mark.parametrize(
  ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_stops_it_the_folder_is_untouched_and_the_cache_kept(
  data, number, expected
):
  old = state(data)
  process = places.start(data, "backwards", SLOW="0.1")
  wait_until(lambda: len(places.noted(data)) > 3)
  process.send_signal(number)
  printed, _ = process.communicate(timeout=60)
  assert process.returncode == expected, printed
  assert "Traceback" not in printed
  assert state(data) == old
  assert beside(data) == set()
  asked = len(places.noted(data))
  assert asked < TEXTS
  places.run(data, "backwards")
  assert len(places.noted(data)) == TEXTS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_processes_too(data, number):
  old = state(data)
  more = ("--config.stored=False", "--config.workers=2", "--config.shard=2")
  process = places.start(data, "backwards", *more, SLOW="0.2")
  wait_until(lambda: len(places.noted(data)) > 1)
  os.killpg(process.pid, number)  # to the group, as a terminal sends Ctrl-C
  printed, _ = process.communicate(timeout=60)
  assert process.returncode == 128 + number, printed
  assert "Traceback" not in printed
  assert state(data) == old


def test_a_second_signal_ends_it_at_once(data):
  old = state(data)
  process = places.start(data, "backwards", SLOW="20")
  wait_until(lambda: places.noted(data))
  process.send_signal(signal.SIGINT)
  assert process.stdout.readline().startswith("stopping")
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=10)
  assert process.returncode == 143
  assert state(data) == old


def test_a_signal_after_the_last_text_still_stops_it(data, monkeypatch):
  old, stop, write = state(data), StopSignals(), report.write

  def signalled(*given):
    write(*given)
    stop.code = 130

  monkeypatch.setattr(report, "write", signalled)
  with pytest.raises(Stopped):
    run(config(), data, stop)
  assert state(data) == old
  assert beside(data) == set()


def test_what_is_on_its_way_to_a_language_model_comes_in(data):
  pytest.importorskip(
    "openai", reason="needs the extra augment: pip install -e .[augment]"
  )
  echo = lambda number, body: reply(f"In other words, number {number} is it?")
  with StubServer(echo, delay=0.5) as stub:
    given = [
      *(sys.executable, "-m", "ssljax.augment", f"--data={data}"),
      f"--config={places.ROOT}/configs/augment/llm.py",
      *(f"--config.base_url={stub.url}", "--config.model=m", "--config.concurrency=4"),
      *("--config.language=", "--config.attempts=1"),
    ]
    start = lambda: subprocess.Popen(
      given, cwd=places.ROOT, stderr=subprocess.PIPE, text=True
    )
    process = start()
    wait_until(lambda: len(stub.bodies) > 4)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert len(stub.bodies) < TEXTS // 2 - 4  # not even those of the first part
    again = start()
    _, printed = again.communicate(timeout=60)
    assert again.returncode == 0, printed
    assert len(stub.bodies) == TEXTS  # none was asked for twice


def test_killed_processes_leave_no_orphan(data):
  more = ("--config.stored=False", "--config.workers=2", "--config.shard=2")
  process = places.start(data, "backwards", *more, SLOW="0.2")
  wait_until(lambda: len(places.noted(data)) > 1)
  children = subprocess.run(
    ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
  ).stdout.split()
  process.kill()
  process.communicate(timeout=60)
  assert children
  wait_until(lambda: not any(alive(int(child)) for child in children))


def alive(pid):
  try:
    with open(f"/proc/{pid}/stat") as file:
      return file.read().rsplit(")", 1)[1].split()[0] != "Z"
  except OSError:
    return False


def test_a_second_run_on_the_folder_is_refused(data):
  process = places.start(data, "backwards", SLOW="0.1")
  wait_until(lambda: places.noted(data))
  code, printed = places.run(data, "backwards", "--config.kind=other")
  assert code == 2
  assert "another run is adding views" in printed
  assert len(printed.splitlines()) == 1
  process.communicate(timeout=60)
  assert process.returncode == 0
  assert all(places.views(data, "mine"))


def test_a_server_that_is_gone_stops_the_run_and_says_what_to_do(data):
  old = state(data)
  with pytest.raises(RunError, match=r"20 problems .* no connection; see that .* up"):
    run(config("down"), data)
  assert state(data) == old


def wait_until(true, seconds=60):
  deadline = time.monotonic() + seconds
  while not true():
    assert time.monotonic() < deadline
    time.sleep(0.02)

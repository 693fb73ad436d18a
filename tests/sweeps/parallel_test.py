"""Runs of a sweep as processes: how many at a time, how they end, and signals.

`ssljax.main` is a stub: the folder in which the runs start has a package `ssljax`.
"""

import json
import os
import signal
import threading
import time

import pytest

from ssljax.sweeps import parallel, plan, progress
from ssljax.sweeps.devices import Share
from tests.sweeps.files import expand, finish

# What the stub does is the beginning of the name of the run.
STUB = """
import json, os, pathlib, signal, sys, time
workdir = pathlib.Path(sys.argv[2].partition("=")[2])
what = workdir.name.partition("_")[0]
def save(number, frame):
  print("saved", flush=True)
  sys.exit(143)
signal.signal(signal.SIGTERM, signal.SIG_IGN if what == "deaf" else save)
began = time.time()
print(os.environ["PLACE"], sorted(os.sched_getaffinity(0)), flush=True)
if what in ("wait", "deaf"):
  (workdir / "metrics.jsonl").write_text('{"step": 2, "split": "train"}\\n{"st')
  time.sleep(60)
if what == "fails":
  sys.exit("a warning\\nerror: it fails; do something\\nmore")
if what == "dies":
  os.kill(os.getpid(), signal.SIGKILL)
if what == "ok":
  time.sleep(0.3)
  metrics = dict.fromkeys(("f1", "macro_f1", "accuracy", "auroc"), 0.5)
  result = {"method": "m", "step": 4, "steps": 4, "test": metrics}
  result["times"] = [began, time.time()]
  (workdir / "result.json").write_text(json.dumps(result))
"""
CORES = tuple(sorted(os.sched_getaffinity(0)))
SHARES = [Share({"PLACE": name}, CORES[:1]) for name in ("left", "right")]


@pytest.fixture
def train(tmp_path, monkeypatch):
  """Trains runs with these names; returns how they ended, and the finished ones."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "ssljax").mkdir()
  (tmp_path / "ssljax" / "__init__.py").write_text("")
  (tmp_path / "ssljax" / "main.py").write_text(STUB)

  def run(*names, prepare=lambda sweep: None):
    sweep = expand(tmp_path, *names)
    prepare(sweep)
    with progress.StepProgress(sweep, "sweep") as display:
      finished = []
      ended = parallel.train(sweep, SHARES, display, finished.append)
    return ended, {run.name: run for run in finished}

  return run


@pytest.fixture
def signal_soon():
  """Sends signals to this process once files exist."""
  threads = []

  def send(paths, *numbers):
    def work():
      while not all(path.exists() for path in paths):
        time.sleep(0.05)
      for number in numbers:
        os.kill(os.getpid(), number)
        time.sleep(0.6)

    threads.append(threading.Thread(target=work))
    threads[-1].start()

  yield send
  for thread in threads:
    thread.join()


def test_a_run_that_fails_does_not_stop_the_others(train, capfd):
  ended, finished = train("fails", "ok", "dies", "empty", "ok_2")
  assert list(finished) == ["ok", "ok_2"]
  cores = list(CORES[:1])
  assert ended.code == 0
  assert set(ended.failures) == {"fails", "dies", "empty"}
  assert ended.failures["fails"] == "exit code 1: error: it fails; do something"
  assert ended.failures["dies"] == "killed by SIGKILL (out of memory?)"
  assert ended.failures["empty"].startswith("no result: ")
  assert f" {cores}" in ended.failures["empty"]
  command, printed = finished["ok"].log.read_text().splitlines()
  assert command.startswith("$ ")
  assert "'--config.data=my data'\"'\"'s'" in command
  assert printed in (f"left {cores}", f"right {cores}")
  # A run's log says that it failed, until it starts again.
  run = plan.SweepRun("fails", "", (), {}, finished["ok"].workdir.parent / "fails")
  assert run.has_failed()
  assert not finished["ok"].has_failed()
  with open(run.log, "a") as log:
    log.write("$ again\nTraceback\nit breaks\n")
  assert not run.has_failed()
  assert parallel.reason(1, run.log) == "exit code 1: it breaks"  # not the first error
  shown = capfd.readouterr().err
  assert "fails failed: exit code 1: error: it fails" in shown
  assert "ok: test (m, step 4): f1 0.500" in shown
  assert "sweep step 8/8, finished 2 failed 3" in shown


def test_no_more_runs_than_shares_train_at_a_time(train):
  _, finished = train(*(f"ok_{i}" for i in range(5)))
  times = [run.workdir / "result.json" for run in finished.values()]
  times = [json.loads(path.read_text())["times"] for path in times]
  running = [
    sum(began <= moment < ended for began, ended in times) for moment, _ in times
  ]
  assert max(running) == 2
  places = [run.log.read_text().split("\n")[1].split()[0] for run in finished.values()]
  assert set(places) == {"left", "right"}


def test_a_run_that_is_finished_meanwhile_or_has_another_config_is_not_started(train):
  def prepare(sweep):
    finish(sweep[0])
    finish(sweep[1], steps=5)

  ended, finished = train("done", "other", "ok", prepare=prepare)
  assert list(finished) == ["done", "ok"]
  assert list(ended.failures) == ["other"]
  assert "steps: 5 in the run, 4 now" in ended.failures["other"]
  assert not finished["done"].log.exists()


@pytest.mark.parametrize(
  ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_lets_the_runs_save_and_starts_no_more(
  train, signal_soon, tmp_path, number, code
):
  names = ("wait_1", "wait_2", "ok")
  folders = [tmp_path / "runs" / "sweep" / name for name in names]
  signal_soon([folder / "metrics.jsonl" for folder in folders[:2]], number)
  ended, finished = train(*names)
  assert ended == (code, {})
  assert not finished
  assert not folders[2].exists()
  for folder in folders[:2]:
    assert (folder / "run.log").read_text().endswith("\nsaved\n")


def test_a_second_ctrl_c_kills_the_runs(train, signal_soon, tmp_path):
  marker = tmp_path / "runs" / "sweep" / "deaf" / "metrics.jsonl"
  signal_soon([marker], signal.SIGINT, signal.SIGINT)
  began = time.monotonic()
  with pytest.raises(KeyboardInterrupt):
    train("deaf")
  assert time.monotonic() - began < 30


def test_runs_that_ignore_a_signal_are_killed_in_the_end(
  train, signal_soon, tmp_path, monkeypatch
):
  monkeypatch.setattr(parallel, "SIGNAL_TIMEOUT", 0.2)
  marker = tmp_path / "runs" / "sweep" / "deaf" / "metrics.jsonl"
  signal_soon([marker], signal.SIGTERM)
  assert train("deaf") == ((143, {}), {})

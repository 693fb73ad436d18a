"""Whole commands on a full disk, and one of several processes that fails."""

import os
import resource
import socket
import subprocess
import sys
import time

import pytest

from ssljax.main import END_TIMEOUT
from tests import runs

pytestmark = pytest.mark.faults

LAUNCHER = [sys.executable, "launch/local.py", "--processes=2", "--devices=1", "--"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return runs.folder(tmp_path_factory.mktemp("failures"), lengths=(6, 8))


@pytest.fixture(scope="module")
def finished(place):
  """Folder of a run that nothing disturbed."""
  code, printed = runs.run("supervised", place / "finished", place=place)
  assert code == 0, printed
  return place / "finished"


def on_a_full_disk(process, size):
  """Lets writes beyond this size fail in a process that has just started.

  Returns its output, which must have one error line and no traceback.
  """
  resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
  printed, _ = process.communicate(timeout=runs.TIMEOUT)
  assert process.returncode == 1, printed
  assert "Traceback" not in printed
  assert sum(line.startswith("error: ") for line in printed.splitlines()) == 1
  return printed


def test_a_run_ends_with_one_line_and_continues_to_identical_bits(place, finished):
  workdir = place / "full"
  process = runs.start("supervised", workdir, place=place)
  printed = on_a_full_disk(process, 20_000)
  assert "a checkpoint can't be saved (File too large; no checkpoint yet)" in printed
  assert not (workdir / "result.json").exists()
  code, printed = runs.run("supervised", workdir, place=place)
  assert code == 0, printed
  full, straight = runs.result(workdir), runs.result(finished)
  assert full["state_sha256"] == straight["state_sha256"]


def test_two_processes_end_together(place):
  process = subprocess.Popen(
    LAUNCHER + runs.arguments(place, "supervised", place / "two"),
    cwd=runs.ROOT,
    env=runs.environment(place),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  printed = on_a_full_disk(process, 20_000)
  assert "[1] error: " in printed


def test_an_evaluation_without_its_report_has_failed(place, finished):
  process = runs.Command(
    "ssljax.evaluate",
    f"--workdir={finished}",
    f"--data={place}/data/test.jsonl",
    f"--output={place}/evaluated",
    env=runs.environment(place),
    merge=True,
  )
  report = (finished / "report.html").stat().st_size
  assert "report.html: cannot be written" in on_a_full_disk(process, report // 2)
  assert [path.name for path in sorted((place / "evaluated").iterdir())] == [
    "metrics.json",
    "predictions.parquet",
  ]


def test_an_export_leaves_nothing(place, finished):
  process = runs.Command(
    "ssljax.export",
    f"--workdir={finished}",
    f"--output={place}/exported/model",
    env=runs.environment(place),
    merge=True,
  )
  printed = on_a_full_disk(process, 10_000)
  assert f"--output={place}/exported/model: cannot be written (File too" in printed
  assert not list(place.glob("exported/*"))


ALONE = """
import jax
from ssljax import cli, main
from ssljax.errors import UserError

def fail():
  from jax.experimental import multihost_utils
  multihost_utils.sync_global_devices("start")
  print("begun")
  if jax.process_index() == 1:
    raise UserError("alone")
  multihost_utils.sync_global_devices("never")

main.join_processes()
with main.ending_soon():
  cli.guarded(fail, [""])
"""


def test_a_process_that_fails_alone_does_not_wait_for_the_others():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{probe.getsockname()[1]}"
  environment = {**os.environ, "XLA_FLAGS": "", "JAX_COORDINATOR_ADDRESS": address}
  environment.pop("PYTHONUNBUFFERED", None)  # what is printed comes at the end
  began = time.monotonic()
  with open("/dev/full", "w") as full:  # it ends soon even if it can't print
    processes = [
      subprocess.Popen(
        [sys.executable, "-c", ALONE],
        env={**environment, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": rank},
        stdout=full,
        stderr=subprocess.PIPE,
        text=True,
      )
      for rank in "01"
    ]
  _, shown = processes[1].communicate(timeout=120)
  assert processes[1].returncode == 2
  assert shown.splitlines()[-1] == "error: alone"
  processes[0].communicate(timeout=120)
  assert time.monotonic() - began > END_TIMEOUT

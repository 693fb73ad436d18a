"""Several processes train the same classifier as one process."""

import re
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import runs

pytestmark = pytest.mark.faults

LAUNCHER = [sys.executable, "launch/local.py", "--processes=2", "--devices=2", "--"]
SETTINGS = ("--config.dropout=0.0", "--config.learning_rate=0.001", "--config.steps=48")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  # The processes must agree on the shape of each batch.
  return runs.folder(tmp_path_factory.mktemp("processes"), lengths=(6, 8))


@pytest.fixture(scope="module")
def single(place):
  """Folder of a run of one process on one device."""
  code, printed = runs.run("multimatch", place / "single", *SETTINGS, place=place)
  assert code == 0, printed
  return place / "single"


@pytest.fixture(scope="module")
def several(place):
  """Trains once with two processes of two devices: parallel -> folder of the run."""
  workdirs = {}

  def finished_run(parallel):
    if parallel not in workdirs:
      workdir = workdirs[parallel] = place / f"several-{parallel}"
      process = launch(place, workdir, f"--config.parallel={parallel}")
      printed, _ = process.communicate(timeout=runs.TIMEOUT)
      assert process.returncode == 0, printed
    return workdirs[parallel]

  return finished_run


def launch(place, workdir, *more):
  return subprocess.Popen(
    LAUNCHER + runs.arguments(place, "multimatch", workdir, *SETTINGS, *more),
    cwd=runs.ROOT,
    env=runs.environment(place),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_two_processes_of_two_devices_match_one(single, several, parallel):
  one, many = (
    np.array(pq.read_table(w / "predictions" / "test.parquet")["logits"].to_pylist())
    for w in (single, several(parallel))
  )
  np.testing.assert_allclose(one, many, atol=2e-3)
  files = {path.name for path in several(parallel).iterdir()}
  assert files == {path.name for path in single.iterdir()}
  assert "report.html" in files


def test_sigterm_saves_one_step_and_the_run_continues_to_identical_bits(place, several):
  workdir = place / "terminated"
  process = launch(place, workdir)
  try:
    deadline = time.monotonic() + runs.TIMEOUT
    while not list((workdir / "checkpoints").glob("[0-9]*")):
      assert process.poll() is None
      assert time.monotonic() < deadline
      time.sleep(0.01)
  finally:
    process.terminate()
    printed, _ = process.communicate(timeout=runs.TIMEOUT)
  assert process.returncode == 143, printed
  assert not (workdir / "result.json").exists()
  process = launch(place, workdir)
  printed, _ = process.communicate(timeout=runs.TIMEOUT)
  assert process.returncode == 0, printed
  assert int(re.search(r"resumed at step (\d+)", printed)[1]) > 0
  straight, resumed = (runs.result(w) for w in (several("jit"), workdir))
  assert straight["state_sha256"] == resumed["state_sha256"]

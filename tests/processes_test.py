"""Several processes train what one trains."""

import re
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import runs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return runs.folder(tmp_path_factory.mktemp("processes"))


SAME = ("--config.dropout=0.0", "--config.learning_rate=0.001", "--config.steps=48")


@pytest.fixture(scope="module")
def alone(place):
  """The run of one process on one device."""
  code, printed = runs.run("multimatch", place / "alone", *SAME, place=place)
  assert code == 0, printed
  return place / "alone"


LAUNCHER = [sys.executable, "launch/local.py", "--processes=2", "--devices=2", "--"]


@pytest.fixture(scope="module")
def several(place):
  """The folder of a finished run of two processes, by how it is parallel."""
  done = {}

  def of(parallel):
    if parallel not in done:
      workdir = done[parallel] = place / f"several-{parallel}"
      more = [*SAME, f"--config.parallel={parallel}"]
      ended = subprocess.run(
        LAUNCHER + runs.arguments(place, "multimatch", workdir, *more),
        cwd=runs.ROOT,
        env=runs.environment(place),
        capture_output=True,
        text=True,
        timeout=400,
      )
      assert ended.returncode == 0, ended.stdout + ended.stderr
    return done[parallel]

  return of


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_two_processes_of_two_devices_equal_one(alone, several, parallel):
  one, many = (
    np.array(pq.read_table(w / "predictions" / "test.parquet")["logits"].to_pylist())
    for w in (alone, several(parallel))
  )
  np.testing.assert_allclose(one, many, atol=2e-3)
  left = {path.name for path in several(parallel).iterdir()}
  assert left == {path.name for path in alone.iterdir()}
  assert "report.html" in left


def test_sigterm_saves_the_same_step_and_the_next_start_ends_at_the_same_bits(
  place, several
):
  workdir = place / "terminated"

  def start():
    return subprocess.Popen(
      LAUNCHER + runs.arguments(place, "multimatch", workdir, *SAME),
      cwd=runs.ROOT,
      env=runs.environment(place),
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  process = start()
  try:
    deadline = time.monotonic() + 200
    while not list((workdir / "checkpoints").glob("[0-9]*")):
      assert process.poll() is None
      assert time.monotonic() < deadline
      time.sleep(0.01)
  finally:
    process.terminate()
    printed, _ = process.communicate(timeout=200)
  assert process.returncode == 143, printed
  assert not (workdir / "result.json").exists()
  process = start()
  printed, _ = process.communicate(timeout=200)
  assert process.returncode == 0, printed
  assert int(re.search(r"resumed at step (\d+)", printed)[1]) > 0
  straight, resumed = (runs.result(w) for w in (several("jit"), workdir))
  assert straight["state_sha256"] == resumed["state_sha256"]

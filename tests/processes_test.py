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


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_two_processes_of_two_devices_equal_one(place, parallel):
  same = ["--config.dropout=0.0", "--config.learning_rate=0.001"]
  alone, several = place / f"alone-{parallel}", place / f"several-{parallel}"
  same.append(f"--config.parallel={parallel}")
  code, printed = runs.run("multimatch", alone, *same, place=place)
  assert code == 0, printed
  launcher = [sys.executable, "launch/local.py", "--processes=2", "--devices=2", "--"]
  done = subprocess.run(
    launcher + runs.arguments(place, "multimatch", several, *same),
    cwd=runs.ROOT,
    env=runs.environment(place),
    capture_output=True,
    text=True,
    timeout=400,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  one, many = (
    np.array(pq.read_table(w / "predictions" / "test.parquet")["logits"].to_pylist())
    for w in (alone, several)
  )
  np.testing.assert_allclose(one, many, atol=2e-3)


def test_sigterm_saves_the_same_step_and_the_next_start_ends_at_the_same_bits(place):
  same = ["--config.dropout=0.0", "--config.learning_rate=0.001"]
  workdir = place / "terminated"

  def start():
    launcher = [sys.executable, "launch/local.py", "--processes=2", "--devices=2", "--"]
    return subprocess.Popen(
      launcher + runs.arguments(place, "multimatch", workdir, *same),
      cwd=runs.ROOT,
      env=runs.environment(place),
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  process = start()
  while not list((workdir / "checkpoints").glob("[0-9]*")):
    assert process.poll() is None
    time.sleep(0.01)
  process.terminate()
  printed, _ = process.communicate(timeout=200)
  assert process.returncode == 143, printed
  assert not (workdir / "result.json").exists()
  process = start()
  printed, _ = process.communicate(timeout=200)
  assert process.returncode == 0, printed
  assert int(re.search(r"resumed at step (\d+)", printed)[1]) > 0
  straight, resumed = (runs.result(w) for w in (place / "several-jit", workdir))
  assert straight["state_sha256"] == resumed["state_sha256"]

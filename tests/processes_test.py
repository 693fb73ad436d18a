"""Several processes train what one trains."""

import subprocess
import sys

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

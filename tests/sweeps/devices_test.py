"""How cores and GPUs are divided among the runs of a sweep."""

import os

import pytest

from ssljax.errors import UserError
from ssljax.sweeps import devices


@pytest.fixture
def machine(tmp_path, monkeypatch):
  """Makes a machine with some cores and GPUs, as `nvidia-smi` lists them."""
  for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "XLA_FLAGS"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

  def make(cores, gpus=0):
    cores = set(cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores, raising=False)
    lines = "".join(f"echo 'GPU {i}: H200 (UUID: GPU-{i})'\n" for i in range(gpus))
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{lines}echo '  MIG 1g'\n")
    command.chmod(0o755)

  return make


@pytest.mark.parametrize(
  ("cores", "jobs", "expected"),
  [
    (range(8), 2, [(0, 1, 2, 3), (4, 5, 6, 7)]),
    ((1, 3, 5, 7, 9), 2, [(1, 3), (5, 7)]),  # the same number for each
    (range(2), 3, [(0,), (1,), (0,)]),
    (range(3), 0, [(0, 1, 2)]),
  ],
)
def test_runs_have_the_same_number_of_cores(machine, cores, jobs, expected):
  machine(cores)
  shares = devices.divide(jobs)
  assert [share.cores for share in shares] == expected
  assert all(share.variables == {} for share in shares)


def test_each_run_has_a_gpu(machine, monkeypatch):
  machine(range(8), gpus=4)
  assert len(devices.divide()) == 4
  shares = devices.divide(2)
  assert [share.variables["CUDA_VISIBLE_DEVICES"] for share in shares] == ["0", "1"]
  assert shares[1].variables["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=true"
  with pytest.raises(UserError, match=r"--jobs=5: .* there are 4 \(0, 1, 2, 3\)"):
    devices.divide(5)
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-1")
  monkeypatch.setenv("XLA_FLAGS", "--a")
  assert [share.variables for share in devices.divide()] == [
    {
      "CUDA_VISIBLE_DEVICES": name,
      "XLA_FLAGS": "--a --xla_gpu_deterministic_ops=true",
    }
    for name in ("3", "GPU-1")
  ]


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("JAX_PLATFORMS", "cpu"),
    ("CUDA_VISIBLE_DEVICES", "-1"),
    ("CUDA_VISIBLE_DEVICES", ""),
  ],
)
def test_gpus_can_be_left_out(machine, monkeypatch, name, value):
  machine(range(2), gpus=1)
  assert devices.visible_gpus() == ["0"]
  monkeypatch.setenv(name, value)
  assert devices.visible_gpus() == []
  assert len(devices.divide(2)) == 2

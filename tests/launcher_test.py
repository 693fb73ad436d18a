"""Exit codes, signals and output of the scripts in launch/, with stub programs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOCAL = Path(__file__).parents[1] / "launch" / "local.py"

# A stub for ssljax.main. Rank 1 exits as the first argument says; rank 0 waits for a
# signal and pretends to save.
STUB = """
import os, signal, sys, time
rank = os.environ["JAX_PROCESS_ID"]
if sys.argv[1] == "report":
  names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID",
           "JAX_LOCAL_DEVICE_IDS", "XLA_FLAGS", "JAX_PLATFORMS")
  line = "|".join(os.environ.get(name, "") for name in names)
  os.write(1, f"{line} {sys.argv[2:]}\\n".encode())  # one write per line
  sys.exit(0)
def save(number, frame):
  os.write(1, f"saving {rank} {number}\\n".encode())
  time.sleep(0.3 if rank == "0" else 0)
  os.write(1, f"saved {rank}\\n".encode())
  sys.exit(143)
if sys.argv[1] != "deaf":
  signal.signal(signal.SIGTERM, save)
else:
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"ready\\n")
if rank == "1" and sys.argv[1].isdigit():
  time.sleep(0.3)
  sys.exit(int(sys.argv[1]))
if rank == "1" and sys.argv[1] == "dies":
  os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)
"""

# The launcher, with less patience. A script doesn't import from the current folder.
IMPATIENT = f"""
import runpy, sys
sys.path.remove("")
launcher = runpy.run_path({str(LOCAL)!r})
launcher["main"].__globals__["SIGNAL_TIMEOUT"] = 0.5
sys.exit(launcher["main"]())
"""


@pytest.fixture
def start(tmp_path):
  """Starts the launcher in a folder where `ssljax` is the stub."""
  (tmp_path / "ssljax").mkdir()
  (tmp_path / "ssljax" / "__init__.py").write_text("")
  (tmp_path / "ssljax" / "main.py").write_text(STUB)
  started = []

  def run(*arguments, options=("--processes", "2"), launcher=None, **environment):
    script = ("-c", launcher) if launcher else (str(LOCAL),)
    process = subprocess.Popen(
      [sys.executable, *script, *options, "--", *arguments, "--workdir=w"],
      cwd=tmp_path,
      env={**os.environ, **environment},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    started.append(process)
    return process

  yield run
  for process in started:
    process.kill()
    process.wait()


def wait_until_ready(process, count=2):
  """Reads the output until `count` processes have printed "ready"."""
  while count:
    line = process.stdout.readline()
    assert line, "the launcher exited before all processes were ready"
    count -= line.endswith("ready\n")


def test_each_process_gets_its_rank_address_and_devices(start):
  process = start(
    "report",
    options=("--processes", "2", "--devices", "3"),
    XLA_FLAGS="--xla_force_host_platform_device_count=8 --xla_dump_to=d",
  )
  out, _ = process.communicate(timeout=30)
  assert process.returncode == 0
  zero, one = sorted(out.splitlines(), key=lambda line: line.startswith("[1] "))
  rest = " ['--workdir=w', '--config.distributed=true']"
  flags = "--xla_dump_to=d --xla_force_host_platform_device_count=3|cpu" + rest
  address = zero.split("|")[0]
  assert address.startswith("127.0.0.1:")
  assert zero == f"{address}|2|0||{flags}"
  assert one == f"[1] {address}|2|1||{flags}"


def test_without_virtual_devices_each_process_uses_the_device_of_its_rank(start):
  out, _ = start("report", XLA_FLAGS="", JAX_PLATFORMS="").communicate(timeout=30)
  assert sorted(line.split("|", 3)[3] for line in out.splitlines()) == [
    f"{rank}|| ['--workdir=w', '--config.distributed=true']" for rank in "01"
  ]


@pytest.mark.parametrize(("how", "code"), [("2", 2), ("7", 7), ("dies", 137)])
def test_a_failure_stops_all_processes(start, how, code):
  process = start(how)
  began = time.monotonic()
  process.communicate(timeout=30)
  assert process.returncode == code
  assert time.monotonic() - began < 9  # rank 0 obeyed SIGTERM


def test_output_that_cannot_be_written_is_read_all_the_same():
  relay = f"runpy.run_path({str(LOCAL)!r})['relay'](1, sys.stdin.buffer)"
  with open("/dev/full", "w") as full:
    done = subprocess.run(
      [sys.executable, "-c", f"import runpy, sys; {relay}"],
      input="one\ntwo\n",
      stdout=full,
      stderr=subprocess.PIPE,
      text=True,
    )
  assert (done.returncode, done.stderr) == (0, "")


def test_a_second_ctrl_c_kills_processes_that_ignore_sigterm(start):
  deaf = start("deaf", options=("--processes", "1"))
  wait_until_ready(deaf, 1)
  deaf.send_signal(signal.SIGINT)
  time.sleep(0.5)
  assert deaf.poll() is None
  deaf.send_signal(signal.SIGINT)
  deaf.communicate(timeout=30)
  assert deaf.returncode == 137


def test_processes_that_ignore_a_signal_are_killed_in_the_end(start):
  deaf = start("deaf", launcher=IMPATIENT)
  wait_until_ready(deaf)
  deaf.terminate()
  deaf.communicate(timeout=20)
  assert deaf.returncode == 137


@pytest.mark.parametrize(
  ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_makes_every_process_save(start, number, code):
  process = start("wait")
  wait_until_ready(process)
  process.send_signal(number)
  out, _ = process.communicate(timeout=30)
  assert process.returncode == code
  # Rank 0 takes longer to save; the exit of rank 1 must not cut it off.
  for line in ("saving 0 15", "saved 0", "[1] saving 1 15", "[1] saved 1"):
    assert line in out.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl of Linux")
def test_a_kill_of_the_launcher_takes_its_processes_along(start):
  process = start("deaf")
  wait_until_ready(process)
  children = subprocess.run(
    ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
  ).stdout.split()
  assert len(children) == 2
  process.kill()
  # Returns when nobody has the pipes open anymore; before, the children did for 60 s.
  process.communicate(timeout=20)


def test_workdir_is_required(tmp_path):
  result = subprocess.run(
    [sys.executable, str(LOCAL), "--processes", "2", "--", "--config=c.py"],
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 2
  assert "--workdir is missing" in result.stderr


@pytest.mark.parametrize(
  ("code", "state", "requeued"),
  [
    (0, "RUNNING", False),
    (2, "RUNNING", False),
    (137, "RUNNING", False),
    (143, "RUNNING", True),
    (143, "CANCELLED", False),
  ],
)
def test_slurm_requeues_only_a_run_that_saved(tmp_path, code, state, requeued):
  """Runs the job script with stubs for SLURM's commands."""
  for name, line in (
    ("srun", f'echo "$@" "$XLA_FLAGS" > {tmp_path}/srun.txt; exit {code}'),
    ("squeue", f"echo {state}"),
    ("scontrol", f'echo "$@" > {tmp_path}/scontrol.txt'),
  ):
    (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
    (tmp_path / name).chmod(0o755)
  result = subprocess.run(
    ["bash", str(LOCAL.with_name("slurm.sbatch")), "--config=c.py", "--workdir=a b"],
    cwd=tmp_path,
    env={
      **os.environ,
      "PATH": f"{tmp_path}:{os.environ['PATH']}",
      "SLURM_JOB_ID": "17",
      "SLURM_CPUS_PER_TASK": "8",
      "XLA_FLAGS": "--xla_dump_to=d",
    },
  )
  assert result.returncode == code
  command = (tmp_path / "srun.txt").read_text().strip()
  assert command.startswith("--cpus-per-task=8 ")
  assert command.endswith(
    "python -m ssljax.main --config=c.py --workdir=a b --config.distributed=true"
    " --xla_dump_to=d --xla_gpu_deterministic_ops=true"
  )
  requests = tmp_path / "scontrol.txt"
  assert requests.exists() == requeued
  assert not requeued or requests.read_text() == "requeue 17\n"


@pytest.mark.parametrize(
  "name", ["slurm.sbatch", "sweep.sbatch", "tpu_vm.sh", "gke.sh", "../.ci/run"]
)
def test_shell_scripts_parse(name):
  subprocess.run(["bash", "-n", str(LOCAL.parent / name)], check=True)

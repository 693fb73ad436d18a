"""The command launch/sweep.py: real runs of a tiny encoder, and SLURM's commands."""

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import sweep
from ssljax.errors import UserError
from ssljax.runtime import lock
from ssljax.sweeps import plan
from tests import runs
from tests.sweeps.files import expand, finish, write_sweep

# Executes the tasks of an array one after the other, as SLURM does on its nodes.
SBATCH = """
import os, pathlib, re, subprocess, sys
options = [word for word in sys.argv[1:4] if word.startswith("--")]
script, *arguments = sys.argv[1 + len(options) :]
array, output = (
  next(o.partition("=")[2] for o in options if o.startswith(name))
  for name in ("--array", "--output")
)
numbers = []
for part in array.partition("%")[0].split(","):
  first, _, last = part.partition("-")
  numbers += range(int(first), int(last or first) + 1)
for number in numbers:
  ids = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(number)}
  with open(output.replace("%a", str(number)), "a") as file:
    task = ["bash", script, *arguments]
    code = subprocess.run(task, stdout=file, stderr=file, env=os.environ | ids)
  print("task", number, "exit code", code.returncode)
"""
SRUN = 'while [[ $1 == --* ]]; do shift; done\nexec "$@"'


def write_command(path: Path, content: str) -> None:
  path.write_text(content)
  path.chmod(0o755)


class Place:
  """A folder with data, an encoder and sweep files, in which sweeps run."""

  def __init__(self, path: Path):
    self.path = runs.folder(path)
    self.env = runs.environment(path)
    write_command(path / "sbatch", f"#!{sys.executable}\n{SBATCH}")
    write_command(path / "srun", f"#!/bin/bash\n{SRUN}\n")
    self.env["PATH"] = f"{path}:{os.environ['PATH']}"
    # Of those for a training run, the flags that set a key.
    flags = runs.arguments(Path(), "fixmatch", Path())
    self.flags = [flag.replace("=./", "=") for flag in flags if "config." in flag]
    self.flags.append("--config.log_every=1")

  def sweep(self, name: str, *entries: tuple) -> str:
    """Writes a sweep file that yields `entries`; returns the flag for it."""
    path = self.path / "files" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"def runs():\n  yield from {entries!r}\n")
    return f"--sweep=files/{name}.py"

  def start(self, *arguments: str) -> runs.Command:
    options = {"env": self.env, "cwd": self.path}
    return runs.Command("launch.sweep", *self.flags, *arguments, **options)

  def run(self, *arguments: str) -> tuple[int, str, str]:
    """Runs launch/sweep.py; returns the exit code, the output and the errors."""
    process = self.start(*arguments)
    out, err = process.communicate()
    return process.returncode, out, err

  def hashes(self, folder: str) -> dict[str, str]:
    """The hashes of the files in a folder."""
    return {
      str(path): hashlib.sha256(path.read_bytes()).hexdigest()
      for path in sorted((self.path / folder).rglob("*"))
      if path.is_file()
    }

  def lines(self, name: str) -> list[dict]:
    path = self.path / "results" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return Place(tmp_path_factory.mktemp("sweeps"))


@pytest.fixture(scope="module")
def swept(place):
  """A sweep of three runs, of which one fails; its flag and what it printed."""
  flag = place.sweep(
    "three",
    ("good-0", "supervised", {"seed": 0}),
    ("bad", "fixmatch", {"method.threshold": 0.5, "unlabelled_ratio": 50}),
    ("good-1", "supervised", {"seed": 1}),
  )
  return flag, place.run(flag, "--jobs=2")


@pytest.mark.slow
def test_a_sweep_trains_compares_and_records_its_runs(place, swept):
  _, (code, out, err) = swept
  assert code == 1, out + err
  assert out.splitlines()[0] == "3 runs, 0 finished"
  assert "\nsupervised  data  16      2     " in out
  (failed,) = [line for line in err.splitlines() if line.startswith("failed: ")]
  assert failed.startswith("failed: bad: exit code 2: error: ")
  assert failed.endswith("; see runs/three/bad/run.log")
  assert "unlabelled" in (place.path / "runs/three/bad/run.log").read_text()
  assert "2 runs: runs/three/comparison.html" in out
  lines = place.lines("three")
  assert sorted(line["run"] for line in lines) == ["good-0", "good-1"]
  for line in lines:
    result = runs.result(place.path / "runs" / "three" / line["run"])
    assert line["test"] == result["test"]
    assert line["commit"] == result["commit"] != ""
    assert line["steps_per_second"] > 0


@pytest.mark.slow
def test_only_what_has_failed_is_trained_again(place, swept):
  flag, _ = swept
  folders = ("runs/three/good-0", "runs/three/good-1", "results")
  before = [place.hashes(folder) for folder in folders]
  code, out, _ = place.run(flag, "--jobs=2")
  assert code == 1
  assert out.splitlines()[0] == "3 runs, 2 finished"
  assert [place.hashes(folder) for folder in folders] == before
  log = (place.path / "runs/three/bad/run.log").read_text()
  assert log.count("$ ") == log.count("\nerror: ") == 2
  assert log.splitlines()[-1].startswith("failed: exit code 2: error: ")
  # Any task of an array writes the report if the others have ended, failed or not.
  (place.path / "runs/three/comparison.html").unlink()
  code, out, _ = place.run(flag, "--only=0")
  assert code == 0
  assert "2 runs: runs/three/comparison.html" in out


@pytest.mark.slow
def test_a_changed_sweep_takes_no_old_result(place, swept):
  flag, _ = swept
  before = place.hashes("runs/three"), place.hashes("results")
  code, out, err = place.run(flag, "--config.learning_rate=0.5")
  assert (code, out) == (2, "")
  (error,) = err.splitlines()
  assert error.startswith("error: --workdir=runs/three/good-0 holds a run with another")
  assert "learning_rate: 0.003 in the run, 0.5 now" in error
  assert (place.hashes("runs/three"), place.hashes("results")) == before


@pytest.mark.slow
def test_a_run_that_another_process_trains_is_reported(place):
  flag, workdir = place.sweep("held", ("a", "vat", {})), place.path / "runs/held/a"
  with lock.exclusive(workdir, "--workdir", inside=True):
    code, _, err = place.run(flag)
  assert code == 1
  error = f"error: --workdir=runs/held/a: process {os.getpid()} on"
  assert f"failed: a: exit code 2: {error}" in err
  assert [path.name for path in workdir.iterdir()] == ["run.log"]


@pytest.mark.slow
def test_mistakes_are_one_line(place):
  flag = place.sweep("two", ("a", "vat", {"seed": 1}), ("b", "vat", {"seed": 2}))
  for arguments, message in (
    ((), "no sweep: give --sweep="),
    (("--sweep=nothing",), "'nothing'"),
    ((flag, "--config.seed=3"), "a and b are the same run"),
    ((flag, "--only=2"), "the runs are numbered 0 to 1"),
    ((flag, "--config=vat"), "config"),
  ):
    code, out, err = place.run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
  assert not (place.path / "runs" / "two").exists()


def test_printed_commands_can_be_pasted_into_a_shell(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  changes = {"data": "my data's", "strong": ("eda", "words"), "verify": True}
  entries = (
    ("a", "fixmatch:response+abc", changes),
    ("b", "vat", {"data": "$HOME & co"}),
  )
  planned = plan.expand(str(write_sweep(tmp_path, *entries)), "printed")
  (tmp_path / "ssljax").mkdir()
  (tmp_path / "ssljax" / "__init__.py").write_text("")
  stub = "import json, sys\nprint(json.dumps(sys.argv[1:]))\n"
  (tmp_path / "ssljax" / "main.py").write_text(stub)
  lines = "\n".join(map(sweep.as_command, planned))
  pasted = subprocess.run(["bash", "-c", lines], capture_output=True, text=True)
  assert [json.loads(line) for line in pasted.stdout.splitlines()] == [
    [
      "--config=fixmatch:response+abc",
      "--workdir=runs/printed/a",
      "--config.data=my data's",
      "--config.strong=eda,words",
      "--config.verify=true",
    ],
    ["--config=vat", "--workdir=runs/printed/b", "--config.data=$HOME & co"],
  ]


def test_an_array_has_a_task_for_each_run_that_is_not_finished(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  planned = expand(tmp_path, *"abcd")
  command = sweep.array_command(planned, "mine", 2, ["--sweep=sweep.py"])
  launch = runs.ROOT / "launch"
  assert command == [
    *("sbatch", "--array=0-3%2", "--output=runs/mine/slurm-%a.log"),
    *(f"{launch}/sweep.sbatch", sys.executable, f"{launch}/sweep.py"),
    "--sweep=sweep.py",
  ]
  finish(planned[1])
  assert sweep.array_command(planned, "mine", 0, [])[1] == "--array=0,2,3"
  for i in (0, 2, 3):
    finish(planned[i])
  with pytest.raises(UserError, match="all runs are finished"):
    sweep.array_command(planned, "mine", 0, [])


@pytest.mark.slow
def test_print_and_submit_only_print(place):
  flag = place.sweep("array", *((f"v-{i}", "vat", {"seed": i}) for i in range(2)))
  code, out, _ = place.run(flag, "--print", "--config.verify=true")
  assert code == 0
  *_, last = [shlex.split(line) for line in out.splitlines()]
  assert last[1:5] == ["-m", "ssljax.main", "--config=vat", "--workdir=runs/array/v-1"]
  assert set(last[5:]) == {"--config.seed=1", "--config.verify=true", *place.flags}
  code, out, _ = place.run(flag, "--submit=slurm", "--print", "--jobs=2")
  assert code == 0
  assert shlex.split(out)[1] == "--array=0-1%2"
  assert shlex.split(out)[-len(place.flags) - 2 :] == [
    flag,
    "--name=array",
    *place.flags,
  ]
  assert not (place.path / "runs" / "array").exists()


@pytest.mark.faults
def test_the_tasks_of_a_slurm_array_train_what_is_missing(place, swept):
  flag = place.sweep(
    "three",  # the failing run is now a good one
    ("good-0", "supervised", {"seed": 0}),
    ("bad", "fixmatch", {"method.threshold": 0.5, "seed": 2}),
    ("good-1", "supervised", {"seed": 1}),
    ("more", "fixmatch", {"seed": 0}),
  )
  code, out, err = place.run(flag, "--submit=slurm")
  assert code == 0, err
  command, *tasks = out.splitlines()
  assert shlex.split(command)[1] == "--array=1,3"
  assert tasks == ["task 1 exit code 0", "task 3 exit code 0"]
  names = [line["run"] for line in place.lines("three")]
  assert sorted(names[:2]) == ["good-0", "good-1"]
  assert names[2:] == ["bad", "more"]
  outputs = [place.path / f"runs/three/slurm-{i}.log" for i in (1, 3)]
  compared = "4 runs: runs/three/comparison.html"
  assert [compared in output.read_text() for output in outputs] == [False, True]
  code, out, err = place.run(flag, "--submit=slurm")
  assert code == 2
  assert "all runs are finished" in err


@pytest.mark.parametrize(
  ("code", "state", "requeued"),
  [(0, "RUNNING", False), (143, "RUNNING", True), (143, "CANCELLED", False)],
)
def test_slurm_requeues_only_the_task_that_saved(tmp_path, code, state, requeued):
  write_command(tmp_path / "srun", f'#!/bin/sh\necho "$@"; exit {code}\n')
  write_command(tmp_path / "squeue", f'#!/bin/sh\necho "$@" >&2; echo {state}\n')
  write_command(tmp_path / "scontrol", '#!/bin/sh\necho "scontrol $@"\n')
  ids = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "7"}
  done = subprocess.run(
    ["bash", str(runs.ROOT / "launch" / "sweep.sbatch"), "python", "a b"],
    env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **ids},
    capture_output=True,
    text=True,
  )
  assert done.returncode == code
  first, *rest = done.stdout.splitlines()
  assert first == "--cpus-per-task=1 python a b --only=3"
  assert rest == (["scontrol requeue 7_3"] if requeued else [])
  assert not done.stderr or "--jobs=7_3" in done.stderr


@pytest.mark.faults
def test_a_sweep_that_was_killed_twice_ends_like_one_that_was_not(place):
  """The kills come once a run has trained a few steps, and once one is finished."""
  entries = [
    (f"{method}-{seed}", method, {"seed": seed, "steps": 60})
    for method in ("fixmatch", "supervised")
    for seed in range(2)
  ]
  flags = [place.sweep(name, *entries) for name in ("whole", "killed")]
  place.flags = [flag for flag in place.flags if "steps" not in flag]

  def steps():
    paths = (place.path / "runs" / "killed").glob("*/metrics.jsonl")
    return sum(path.read_text().count('"train"') for path in paths)

  kills = (lambda: steps() >= 8, lambda: steps() >= 70)
  for due in kills:
    process = place.start(flags[1], "--jobs=2")
    while not due():
      assert process.poll() is None, process.communicate()
      time.sleep(0.05)
    children = subprocess.run(
      ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
    ).stdout.split()
    assert children
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 20
    while any(Path("/proc", child).exists() for child in children):
      assert time.monotonic() < deadline, "the runs outlive the sweep"
      time.sleep(0.05)
  ends = [place.run(flag, "--jobs=2") for flag in flags]
  assert [end[0] for end in ends] == [0, 0], ends
  whole, killed = (
    [
      line
      for line in end[1].splitlines()
      if line.startswith(("method", "super", "fix"))
    ]
    for end in ends
  )
  assert len(whole) == 3
  assert killed == whole
  results = [
    {line["run"]: line for line in place.lines(n)} for n in ("whole", "killed")
  ]
  assert [len(place.lines(name)) for name in ("whole", "killed")] == [4, 4]
  for name, line in results[0].items():
    for key in ("test", "validation", "params_sha256", "state_sha256", "config_sha256"):
      assert results[1][name][key] == line[key], (name, key)

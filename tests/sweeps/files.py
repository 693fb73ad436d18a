"""Sweep files and run folders for the tests of sweeps."""

import json
from pathlib import Path

from ssljax.runtime.json_files import write_json
from ssljax.sweeps import plan
from tests.evals.run_folders import make_run

DATA = "my data's"  # a folder whose name a shell would split


def write_sweep(folder: Path, *runs: tuple) -> Path:
  """Writes sweep.py, which yields `runs`, and the folder of their data."""
  (folder / DATA).mkdir(exist_ok=True)
  path = folder / "sweep.py"
  path.write_text(f"def runs():\n  yield from {list(runs)!r}\n")
  return path


def expand(folder: Path, *names: str) -> list[plan.SweepRun]:
  """A sweep of `supervised` whose runs have these names, and a seed each."""
  changes = {"data": DATA, "encoder": "e", "steps": 4}
  runs = [
    (name, "supervised", {**changes, "seed": seed}) for seed, name in enumerate(names)
  ]
  return plan.expand(str(write_sweep(folder, *runs)), "sweep")


def finish(run: plan.SweepRun, **changes) -> None:
  """Writes the folder of a run as training leaves it.

  Args:
    **changes: keys of the config in which the folder differs from the run.
  """
  method = run.config["method"]["name"]
  make_run(run.workdir, method=method, seed=run.config["seed"])
  resolved = json.loads((run.workdir / "config.json").read_text())["resolved"]
  data = str(Path(run.config["data"]).absolute())
  config = {**run.config, "data": data, "resolved": resolved, **changes}
  write_json(run.workdir / "config.json", config)

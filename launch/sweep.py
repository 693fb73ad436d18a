"""Trains the runs of a sweep, and compares them.

  python launch/sweep.py --sweep=configs/sweeps/smoke.py --jobs=2

--jobs is the number of runs at a time. Flags such as --config.data=FOLDER set a key of
all runs. With --print, the command prints the training commands and stops; with
--submit=slurm, it submits a job array. To continue a sweep, or to train only what has
failed, repeat the command.

The runs are in runs/NAME, where NAME is the name of the sweep file, or --name. When a
run ends, its line is appended to results/NAME.jsonl; at the end, the report is written
to runs/NAME/comparison.html. The exit code is 1 if a run has failed.
launch/README.md says more.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ssljax import cli
from ssljax.errors import FINISHED, RunError, UserError
from ssljax.evals import runs
from ssljax.report import report
from ssljax.sweeps import devices, parallel, plan, progress, results
from ssljax.sweeps.plan import SweepRun
from ssljax.sweeps.table import render_table

WAIT = 600.0  # seconds for another process that writes the report


def define_flags() -> None:
  flags.DEFINE_string("sweep", None, "name or file of a sweep")
  flags.DEFINE_string("name", None, "runs/NAME has the runs; default: name of the file")
  flags.DEFINE_integer(
    "jobs", 0, "runs at a time; 0: one for each GPU, or one if there are none", 0
  )
  flags.DEFINE_bool("print", False, "print the commands and stop")
  flags.DEFINE_enum("submit", None, ["slurm"], "submit a job array; don't train here")
  flags.DEFINE_integer("only", None, "train only the run with this number, from 0", 0)


def main(overrides: Sequence[str]) -> int:
  options = flags.FLAGS
  if not options.sweep:
    raise UserError(
      "no sweep: give --sweep=configs/sweeps/smoke.py, or a file of yours"
    )
  name = options.name or plan.sweep_name(options.sweep)
  sweep = plan.expand(options.sweep, name, overrides)
  if options.submit:
    keep = [f"--sweep={options.sweep}", f"--name={name}", *overrides]
    command = array_command(sweep, name, options.jobs, keep)
    print(shlex.join(command), flush=True)
    return FINISHED if options.print else submit(command, Path("runs", name))
  if options.print:
    print("\n".join(map(as_command, sweep)))
    return FINISHED
  if options.only is None:
    return train(sweep, sweep, name, options.jobs)
  if options.only >= len(sweep):
    raise UserError(
      f"--only={options.only}: the runs are numbered 0 to {len(sweep) - 1}"
    )
  return train(sweep, [sweep[options.only]], name, options.jobs)


def train(
  sweep: Sequence[SweepRun], chosen: Sequence[SweepRun], name: str, jobs: int
) -> int:
  """Trains the chosen runs of a sweep; compares all runs once all have ended."""
  lines = Path("results", f"{name}.jsonl")
  finished = {run.name: run for run in chosen if run.result()}  # refuses other configs
  results.append(lines, [*finished.values()])
  missing = [run for run in chosen if run.name not in finished]
  shares = devices.divide(jobs)
  count = f"{len(chosen)} run{'' if len(chosen) == 1 else 's'}"
  print(f"{count}, {len(finished)} finished", flush=True)
  if missing:
    print(
      f"{shares_line(shares)}; output in {missing[0].log.parent.parent}/RUN/run.log"
    )
  with progress.StepProgress(missing, name) as shown:

    def append(run: SweepRun) -> None:
      finished[run.name] = run
      try:
        results.append(lines, [run])
      except (UserError, OSError) as error:  # it's tried again at the end
        shown.note(str(error))

    ended = parallel.train(missing, shares, shown, append)
  # Another process may have trained what failed here.
  finished = {run.name: run for run in chosen if run.result()}
  results.append(lines, [*finished.values()])
  failures = {n: why for n, why in ended.failures.items() if n not in finished}
  for run in missing:
    if failure := failures.get(run.name):
      print(f"failed: {run.name}: {failure}; see {run.log}", file=sys.stderr)
  if ended.code:
    print("stopped by a signal; run the command to continue")
    return ended.code
  done = {run.name: run for run in sweep if run.result()}
  have_ended = (
    run.name in done or run.name in failures or run.has_failed() for run in sweep
  )
  if done and all(have_ended):
    compare(sweep, [*done.values()], name)
  return RunError.code if failures else FINISHED


def shares_line(shares: Sequence[devices.Share]) -> str:
  """Says how many runs train at a time, and what each of them uses."""
  gpu = ", one GPU each" if shares[0].variables else ""
  cores = f", CPU cores per run: {len(shares[0].cores)}" if shares[0].cores else ""
  return f"{len(shares)} at a time{gpu}{cores}"


def compare(sweep: Sequence[SweepRun], finished: Sequence[SweepRun], name: str) -> None:
  """Prints a table of the finished runs and writes the report.

  The report also lists the runs that have started but aren't finished.
  """
  print(render_table([runs.read_run(run.workdir) for run in finished]))
  started = [str(run.workdir) for run in sweep if run.workdir.exists()]
  paths = [*(run.workdir for run in finished), *runs.find_unfinished(started)]
  # The task of an array that ended before may still write.
  report([*map(str, paths)], Path("runs", name, "comparison.html"), wait=WAIT)


def as_command(run: SweepRun) -> str:
  """The command that trains a run, for a shell."""
  python = "python" if shutil.which("python") == sys.executable else sys.executable
  return shlex.join([python, "-m", "ssljax.main", *run.arguments])


def array_command(
  sweep: Sequence[SweepRun], name: str, jobs: int, arguments: Sequence[str]
) -> list[str]:
  """The command that submits a SLURM array with a task for each unfinished run.

  Args:
    jobs: tasks at a time; 0: as many as SLURM allows.
    arguments: of this program, for the tasks.

  Raises:
    UserError: all runs are finished.
  """
  numbers = [i for i, run in enumerate(sweep) if not run.result()]
  if not numbers:
    raise UserError("all runs are finished; leave out --submit to write the report")
  whole = len(numbers) == len(sweep)
  array = f"0-{len(sweep) - 1}" if whole else ",".join(map(str, numbers))
  program = Path(__file__).absolute()
  return [
    "sbatch",
    f"--array={array}{f'%{jobs}' if jobs else ''}",
    f"--output=runs/{name}/slurm-%a.log",
    *map(str, (program.with_name("sweep.sbatch"), sys.executable, program)),
    *arguments,
  ]


def submit(command: Sequence[str], folder: Path) -> int:
  """Runs sbatch, after creating the folder for the output of the tasks."""
  folder.mkdir(parents=True, exist_ok=True)
  try:
    code = subprocess.run(command).returncode
  except FileNotFoundError:
    raise UserError(
      "--submit=slurm: there is no sbatch here; use a machine of the cluster"
    ) from None
  if code:
    raise RunError(f"sbatch failed with exit code {code}")
  return FINISHED


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
  """Separates flags --config.KEY=VALUE from the other arguments."""
  words = cli.normalized(words)
  keys = [word for word in words if re.match(r"--(no)?config\.", word)]
  return keys, [word for word in words if word not in keys]


if __name__ == "__main__":
  sys.path.append(os.getcwd())  # as python -m does, to find the user's modules
  define_flags()
  overrides, sys.argv[1:] = split(sys.argv[1:])
  cli.run(lambda: main(overrides))

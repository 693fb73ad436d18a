"""Expands a sweep file into runs, and finds the results of those that are finished.

A sweep file has a function `runs` that yields, for each run, its name, its config and
the keys to change:

  def runs():
    for method in ("supervised", "fixmatch"):
      for seed in range(3):
        yield f"{method}-{seed}", method, {"data": "pyrit", "seed": seed}
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from ssljax import cli, config_files, run_config
from ssljax.config import validate
from ssljax.configs import base
from ssljax.data.sources.build import resolve_data
from ssljax.errors import UserError
from ssljax.evals import groups
from ssljax.training import workdir as folder

FAILED = "failed: "  # in a run's log
# Runs that differ only in these keys are the same run.
IGNORED = {*run_config.FREE, *groups.IGNORED} - {"seed"}
NAME = r"\w[\w.+-]*"
# What a run of a sweep can't do; other commands do it.
OTHER_COMMANDS = {"dry_run": "use --print", "distributed": "use launch/slurm.sbatch"}


class SweepRun(NamedTuple):
  """One run of a sweep."""

  name: str
  source: str  # its config, as in --config=SOURCE
  flags: tuple[str, ...]  # --config.KEY=VALUE
  config: dict[str, Any]  # all keys
  workdir: Path

  @property
  def arguments(self) -> list[str]:
    """The arguments of `python -m ssljax.main`."""
    return [f"--config={self.source}", f"--workdir={self.workdir}", *self.flags]

  @property
  def log(self) -> Path:
    """The file for the output of the run."""
    return self.workdir / "run.log"

  def mark_failed(self, reason: str) -> None:
    """Appends the reason to the log, where it stays until the run starts again."""
    if self.log.exists():
      with open(self.log, "a", encoding="utf-8") as log:
        log.write(f"{FAILED}{reason}\n")

  def has_failed(self) -> bool:
    """Whether the run's last attempt has failed, in this or another process."""
    if not self.log.exists():
      return False
    lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
    return bool(lines) and lines[-1].startswith(FAILED)

  def changes(self) -> dict[str, Any]:
    """The keys that the flags set, with dots, and their values."""
    changes: dict[str, Any] = {}
    for path in map(_path, self.flags):
      value: Any = self.config
      for key in path.split("."):
        value = value[key]
      changes[path] = value
    return changes

  def result(self) -> dict[str, Any] | None:
    """The content of result.json if the run is finished, otherwise None.

    None also if the data or encoder of a finished run has another path now. Training
    then says whether it has the same content.

    Raises:
      UserError: the folder holds a run with another config, or other files.
    """
    folder.check_path(self.workdir)
    config, _ = run_config.continued(self.workdir, self.config)
    folder.claim(self.workdir, config)
    result = folder.read_result(self.workdir)
    if result is None:
      return None
    placed = {**config, "data": resolve_data(config["data"])}
    return result if run_config.at_same_places(self.workdir, placed) else None


def sweep_name(source: str) -> str:
  """The default name of a sweep: "methods" for configs/sweeps/methods.py."""
  name, _, argument = source.partition(":")
  return "-".join(filter(None, (Path(name).stem, argument)))


def expand(source: str, name: str, overrides: Sequence[str] = ()) -> list[SweepRun]:
  """Lists the runs of a sweep, in the order of the sweep file. Writes nothing.

  Args:
    source: path of a sweep file, or name of one that comes with the package. An
      argument of `runs` may follow a colon.
    name: the folders of the runs are in runs/NAME.
    overrides: flags --config.KEY=VALUE for all runs. They take precedence over the
      values in the sweep file.

  Raises:
    UserError: the file, or the config of a run, has a mistake.
  """
  if not re.fullmatch(NAME, name):
    raise UserError(f"--name={name}: use letters, digits and the characters _ . + -")
  path, argument = config_files.find(source, "sweeps", "--sweep")
  arguments = [argument] if argument else []
  entries = config_files.execute(path, lambda module: list(module.runs(*arguments)))
  sweep: dict[str, SweepRun] = {}
  same: dict[str, str] = {}  # what a run computes -> its name
  for entry in entries:
    run = _run(path, entry, Path("runs", name), overrides)
    if run.name in sweep:
      raise UserError(f"{path}: two runs are called {run.name}; give each its own name")
    content = json.dumps(
      {key: value for key, value in run.config.items() if key not in IGNORED},
      sort_keys=True,
    )
    if content in same:
      raise UserError(
        f"{path}: {same[content]} and {run.name} are the same run; leave one out, or "
        "don't override the key in which they differ"
      )
    sweep[run.name] = run
    same[content] = run.name
  if not sweep:
    raise UserError(f"{path}: its function runs yields no run")
  return list(sweep.values())


def _run(path: Path, entry: Any, parent: Path, overrides: Sequence[str]) -> SweepRun:
  """Builds and checks one run from what the sweep file yields."""
  match entry:
    case (str(name), str(source), Mapping() as changes) if re.fullmatch(NAME, name):
      pass
    case _:
      raise UserError(
        f"{path}: runs yields {entry!r}; it must yield a name (letters, digits and "
        "_ . + -), a config and a dict of changes, such as "
        '("fixmatch-0", "fixmatch", {"seed": 0})'
      )
  overridden = set(map(_path, overrides))
  words = tuple(
    f"--config.{key}={_as_text(value)}"
    for key, value in changes.items()
    if key not in overridden
  )
  words += tuple(overrides)
  try:
    loaded = config_files.load(*config_files.find(source))
    config = cli.with_flags(loaded, words, base.choose).to_dict()
    validate(config)
    config = run_config.complete(config)
    for key, way in OTHER_COMMANDS.items():
      if config[key]:
        raise UserError(f"--config.{key}=true isn't for sweeps; {way}")
  except (UserError, flags.Error, TypeError, ValueError) as error:
    raise UserError(f"{path}, run {name}: {error}") from error
  return SweepRun(name, source, words, config, parent / name)


def _path(flag: str) -> str:
  """Returns "method.threshold" for --config.method.threshold=0.9."""
  return re.sub(r"--(no)?config\.", "", flag.partition("=")[0])


def _as_text(value: Any) -> str:
  """Writes a value as a flag: names with commas between them, True as true."""
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, Iterable) and not isinstance(value, str):
    return ",".join(map(str, value))
  return str(value)

"""Finds finished runs and reads their files; loads no model."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssljax import run_config
from ssljax.errors import UserError
from ssljax.evals import decisions
from ssljax.evals.predictions import Predictions, read_predictions


class Run(NamedTuple):
  """A finished run."""

  workdir: Path
  config: dict[str, Any]  # includes `resolved`
  result: dict[str, Any]

  @property
  def labels(self) -> list[str]:
    """The class names, in the order of the class ids."""
    return self.config["resolved"]["labels"]

  def predictions(self, split: str = "test") -> Predictions:
    """Reads the predictions on `validation`, `test` or `calibration`."""
    return read_predictions(self.workdir / "predictions" / f"{split}.parquet")

  def test_set_hash(self) -> bytes:
    """SHA-256 that is equal for runs with the same test texts and labels."""
    test = self.predictions()
    content = [test.id, test.label.tolist(), test.text, test.response]
    return hashlib.sha256(json.dumps(content).encode()).digest()

  def history(self) -> dict[str, list[dict[str, Any]]]:
    """See `read_history`."""
    return read_history(self.workdir)


def read_history(workdir: Path) -> dict[str, list[dict[str, Any]]]:
  """Reads metrics.jsonl; returns the lines of each split, in the order of steps."""
  history: dict[str, list] = {"train": [], "validation": [], "test": []}
  path = workdir / "metrics.jsonl"
  try:
    with open(path, encoding="utf-8") as file:
      for line in map(json.loads, file):
        if not isinstance(line["step"], int):
          raise ValueError(f"the step {line['step']!r} is not an integer")
        history.setdefault(line["split"], []).append(line)
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f"{path}: cannot be read ({error!r})") from None
  return history


def find_runs(paths: Sequence[str]) -> list[Run]:
  """Finds the finished runs in folders, at any depth.

  Raises:
    UserError: a path is not a folder, a folder has no run, no run is finished, or a
      run cannot be read.
  """
  runs = []
  for path in paths:
    folder = Path(path).expanduser()
    if not folder.is_dir():
      raise UserError(f"{path}: no such folder; give the folders of runs")
    results = sorted(folder.rglob("result.json"))
    if not results and not find_unfinished([path]):
      raise UserError(f"{path}: contains no ssljax run")
    runs += [read_run(result.parent) for result in results]
  if paths and not runs:
    first = find_unfinished(paths)[0]
    raise UserError(f"{first}: has no result.json, so the run is not finished")
  return list({run.workdir.resolve(): run for run in runs}.values())


def find_unfinished(paths: Sequence[str]) -> list[Path]:
  """Finds the folders of runs that have no result.json yet."""
  workdirs = {}
  for path in paths:
    for config in sorted(Path(path).expanduser().rglob("config.json")):
      if not (config.parent / "result.json").exists():
        # A config.json that can't be read may belong to an exported model.
        with contextlib.suppress(UserError):
          run_config.read(config.parent)
          workdirs[config.parent.resolve()] = config.parent
  return list(workdirs.values())


def read_run(workdir: Path) -> Run:
  """Reads one finished run; UserError if it isn't finished or cannot be read."""
  try:
    config = run_config.read(workdir)
    result = json.loads((workdir / "result.json").read_text(encoding="utf-8"))
    if "thresholds" in result:
      result["thresholds"] = decisions.read_entries(result["thresholds"])
  except (OSError, ValueError, AttributeError) as error:
    raise UserError(f"{workdir}: cannot be read as a finished run ({error})") from None
  if "calibration" not in result:
    raise UserError(
      f"{workdir}: an older version wrote its result.json; train again in a new folder"
    )
  return Run(workdir, config, result)

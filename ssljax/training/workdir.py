"""The folder of a run: refuses one that holds something else, reads what a run left."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssljax import run_config
from ssljax.errors import UserError
from ssljax.runtime.json_files import write_json

LOGS = (".log", ".txt", ".out", ".err")


def claim(workdir: Path, config: Mapping[str, Any]) -> None:
  """Checks that a folder is free or holds this run.

  Temporary files of a killed run and log files are ignored.

  Args:
    config: with or without "resolved", what follows from the data.

  Raises:
    UserError: names what differs.
  """
  if not (workdir / "config.json").exists():
    if workdir.exists() and (
      not workdir.is_dir()
      or any(p.name[0] != "." and p.suffix not in LOGS for p in workdir.iterdir())
    ):
      raise UserError(
        f"--workdir={workdir} exists and holds no run of ssljax; choose another folder"
      )
    return
  saved = run_config.read(workdir)
  if "resolved" not in config:
    saved.pop("resolved")
  changes = run_config.difference(saved, config)
  if changes:
    raise UserError(
      f"--workdir={workdir} holds a run with another config ({'; '.join(changes[:6])}"
      f"{'; …' if len(changes) > 6 else ''}); choose another folder, or use that config"
    )


def start(workdir: Path, config: Mapping[str, Any]) -> None:
  """Makes the folder and writes config.json.

  Raises:
    UserError: the folder cannot be written.
  """
  try:
    write_json(workdir / "config.json", config)
  except OSError as error:
    raise UserError(
      f"--workdir={workdir}: cannot be written ({error}); choose another folder"
    ) from error


def read_result(workdir: Path) -> dict[str, Any] | None:
  """result.json of a finished run; None if there is none."""
  try:
    return json.loads((workdir / "result.json").read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return None


def summary(result: Mapping[str, Any]) -> str:
  """The test metrics of a result in one line."""
  test = result["test"]
  metrics = ", ".join(
    f"{name} {test[name]:.3f}"
    for name in ("f1", "macro_f1", "accuracy", "auroc")
    if test[name] is not None
  )
  return f"test ({result['method']}, step {result['step']}): {metrics}"

"""Checks and starts the folder of a run, and reads its result."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssljax import run_config
from ssljax.errors import UserError
from ssljax.runtime.atomic import cannot_write, sweep
from ssljax.runtime.json_files import write_json

LOGS = (".log", ".txt", ".out", ".err")
# Orbax takes these in the path of a checkpoint for a pattern, or loses them.
PATTERN = "[]*?\\"


def check_path(workdir: Path) -> None:
  """Raises UserError if the checkpoints of a new run couldn't be read."""
  if (found := pattern_in(workdir)) and not (workdir / "config.json").exists():
    raise UserError(
      f"--workdir={workdir}: the path {workdir.absolute()} contains {found}, so that "
      f"its checkpoints couldn't be read; use a path without {' '.join(PATTERN)}"
    )


def pattern_in(path: Path) -> str:
  """The characters of PATTERN in an absolute path, with spaces between them."""
  return " ".join(c for c in PATTERN if c in str(path.absolute()))


def claim(workdir: Path, config: Mapping[str, Any]) -> None:
  """Checks that a folder holds this run, or only hidden files and logs.

  Args:
    config: the entry "resolved" (values that follow from the data) may be missing.

  Raises:
    UserError: the folder holds other files, or a run with another config or encoder.
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
  here, now = (run_config.absolute(c["encoder"]) for c in (saved, config))
  if "resolved" in config and here == now:
    run_config.check_encoder(workdir, saved, config["resolved"])
  if changes := run_config.difference(saved, config):
    raise UserError(
      f"--workdir={workdir} holds a run with another config ({'; '.join(changes[:6])}"
      f"{'; …' if len(changes) > 6 else ''}); choose another folder, or use that config"
    )


def start(workdir: Path, config: Mapping[str, Any]) -> None:
  """Makes the folder and writes config.json.

  Clears what killed processes have left of the files of a run.

  Raises:
    UserError: this is impossible; a RunError if the disk is full.
  """
  sweep(workdir, "config.json", "metrics.jsonl", "result.json")
  names = ("validation.parquet", "test.parquet", "calibration.parquet")
  sweep(workdir / "predictions", *names)
  try:
    write_json(workdir / "config.json", config)
  except OSError as error:
    raise cannot_write(
      f"--workdir={workdir}", error, "choose another folder"
    ) from error


def read_result(workdir: Path) -> dict[str, Any] | None:
  """Reads result.json; None if the run has not finished."""
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

"""Appends a line for each finished run of a sweep to results/NAME.jsonl."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssljax import run_config
from ssljax.errors import UserError
from ssljax.evals import runs
from ssljax.runtime import lock
from ssljax.runtime.atomic import atomic_file
from ssljax.runtime.json_files import plain
from ssljax.sweeps.plan import SweepRun

WAIT = 60.0  # seconds for another process that is appending
# What a line copies from result.json.
COPIED = (
  *("method", "seed", "labels", "step", "steps", "test", "validation"),
  *("temperature", "thresholds", "pseudo_labels"),
  *("seconds", "examples_per_second", "device", "versions", "commit"),
  *("params_sha256", "state_sha256"),
)


def append(path: Path, finished: Sequence[SweepRun]) -> int:
  """Appends a line for each run that has none yet; returns their number.

  A run is identified by its result.json, so it gets one line, however often this is
  called. The file is replaced atomically, and several processes may append at once.

  Args:
    finished: runs with a result.json.

  Raises:
    UserError: the file can't be read or written, or a run can't be read.
  """
  with lock.exclusive(path, "results", wait=WAIT):
    old = path.read_bytes() if path.exists() else b""
    known = {line["result_sha256"] for line in _parse(path, old)}
    lines = [describe(run) for run in finished if _sha256(run) not in known]
    if lines:
      new = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
      separator = b"" if old.endswith(b"\n") or not old else b"\n"
      with atomic_file(path) as file:
        file.write(old + separator + new.encode())
  return len(lines)


def read(path: Path) -> list[dict[str, Any]]:
  """Reads the lines of a results file.

  Raises:
    UserError: a line isn't a line of such a file.
  """
  return _parse(path, path.read_bytes())


def describe(run: SweepRun) -> dict[str, Any]:
  """Returns the line of a finished run; docs/runs.md lists its fields."""
  finished = runs.read_run(run.workdir)
  times = [
    line["step_seconds"]
    for line in finished.history()["train"]
    if line.get("step_seconds")
  ]
  line = {
    "run": run.name,
    "config": run.source,
    "changes": run.changes(),
    "settings": run.config,  # all keys, as given
    "config_sha256": config_sha256(finished.config),
    "result_sha256": _sha256(run),
    # The path as it was given: the absolute one differs between machines.
    "data": run.config["data"],
    "views": {kind: run.config[kind] for kind in ("weak", "medium", "strong")},
    "steps_per_second": 1 / float(np.median(times)) if times else None,
    **{key: finished.result[key] for key in COPIED if key in finished.result},
  }
  return plain(line)


def config_sha256(config: Mapping[str, Any]) -> str:
  """The SHA-256 of what determines a run, from its config.json.

  Keys that change no result don't count. The data and the encoder count by the hashes
  of their content, not by their paths.
  """
  ignored = (*run_config.FREE, *run_config.PLACES)
  resolved = {
    key: value
    for key, value in config["resolved"].items()
    if f"resolved.{key}" not in ignored and key not in run_config.OLDER.values()
  }
  kept = {key: value for key, value in config.items() if key not in ignored}
  content = json.dumps({**kept, "resolved": resolved}, sort_keys=True)
  return hashlib.sha256(content.encode()).hexdigest()


def _sha256(run: SweepRun) -> str:
  return hashlib.sha256((run.workdir / "result.json").read_bytes()).hexdigest()


def _parse(path: Path, content: bytes) -> list[dict[str, Any]]:
  lines = []
  for number, text in enumerate(content.splitlines(), 1):
    try:
      line = json.loads(text)
      line["result_sha256"]
    except (ValueError, KeyError, TypeError) as error:
      raise UserError(
        f"{path}, line {number}: not a line of a sweep ({error!r}); remove it, or use "
        "another --name"
      ) from None
    lines.append(line)
  return lines

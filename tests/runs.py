"""Whole runs as processes of their own: a folder of data and encoder, the commands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests import tiny

ROOT = Path(__file__).parent.parent
STEPS = 24


def folder(path: Path) -> Path:
  """`path` with data/ and encoder/; the runs' cache will stand beside them."""
  (path / "data").mkdir()
  (path / "encoder").mkdir()
  for seed, (name, rows) in enumerate({"train": 120, "val": 40, "test": 40}.items()):
    tiny.write_rows(path / "data" / f"{name}.jsonl", rows, seed)
  tiny.folder_of_encoder(path / "encoder")
  return path


def environment(place: Path) -> dict[str, str]:
  # On one device.
  devices = r"--xla_force_host_platform_device_count=\d+"
  flags = re.sub(devices, "", os.environ.get("XLA_FLAGS", "")).strip()
  return {**os.environ, "SSLJAX_CACHE": str(place / "cache"), "XLA_FLAGS": flags}


def arguments(place: Path, name: str, workdir: Path, *more: str) -> list[str]:
  """Of ssljax.main."""
  return [
    f"--config={ROOT}/configs/{name}.py",
    f"--workdir={workdir}",
    f"--config.data={place}/data",
    f"--config.encoder={place}/encoder",
    "--config.labels=16",
    "--config.batch=8",
    f"--config.steps={STEPS}",
    "--config.max_length=32",
    "--config.learning_rate=0.003",
    "--config.eval_every=8",
    "--config.checkpoint_every=4",
    "--config.log_every=5",
    *more,
  ]


def start(*given, place: Path) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, "-m", "ssljax.main", *arguments(place, *given)],
    cwd=ROOT,
    env=environment(place),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def run(*given, place: Path) -> tuple[int, str]:
  """Exit code and what was printed."""
  process = start(*given, place=place)
  printed, _ = process.communicate(timeout=300)
  return process.returncode, printed


def evaluate(place: Path, workdir: Path, data: Path | None, *more: str):
  given = [f"--workdir={workdir}", *more]
  given += [f"--data={data}"] if data else []
  return subprocess.run(
    [sys.executable, "-m", "ssljax.evaluate", *given],
    cwd=ROOT,
    env=environment(place),
    capture_output=True,
    text=True,
  )


def result(workdir: Path) -> dict:
  return json.loads((workdir / "result.json").read_text())

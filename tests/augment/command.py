"""Runs the command with the custom engine and a function of doubles.py."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def make_config(function="reverse", **changes):
  """Returns configs/augment/custom.py with changes."""
  from ssljax.configs.augment import custom

  config = custom.get_config()
  config.update({"function": f"tests.augment.doubles:{function}", "kind": "mine"})
  config.update({"shard": 8, "batch": 1, **changes})
  return config.to_dict()


def start(data, function, *arguments, **environment):
  """Starts the command; its cache and the log of queries are beside the folder."""
  return subprocess.Popen(
    [
      sys.executable,
      "-m",
      "ssljax.augment",
      f"--config={ROOT}/configs/augment/custom.py",
      f"--data={data}",
      f"--config.function=tests.augment.doubles:{function}",
      "--config.kind=mine",
      "--config.shard=8",
      "--config.batch=1",
      *arguments,
    ],
    cwd=ROOT,
    env={
      **os.environ,
      "SSLJAX_CACHE": str(data.parent / "cache"),
      "QUERIES": str(data.parent / "queries"),
      **environment,
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    process_group=0,
  )


def run(data, function, *arguments, **environment):
  """Runs the command; returns its exit code and output."""
  process = start(data, function, *arguments, **environment)
  output, _ = process.communicate(timeout=120)
  return process.returncode, output


def queries(data):
  """Lists the texts that the function was called with, as "ATTEMPT TEXT"."""
  path = data.parent / "queries"
  return path.read_text().splitlines() if path.exists() else []

"""Kills a run at random moments and checks that it ends in the same state regardless.

  python -m benchmarks.kill --times=5 -- --config=configs/fixmatch.py \\
    --config.data=pyrit --config.encoder=sentence-transformers/all-MiniLM-L6-v2 \\
    --config.max_length=32 --config.batch=4 --config.steps=600 \\
    --config.checkpoint_every=5 --config.eval_every=30

Each of the N kills (SIGKILL) waits for the first checkpoint, and comes at a time drawn
uniformly from the first N-th of the duration of an uninterrupted run. The exit code is
0 if every restart resumed at a step above 0 and both hashes equal those of the
uninterrupted run.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument("--times", type=int, default=5)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("arguments", nargs="+", help="of ssljax.main, without --workdir")
  options = parser.parse_args()
  draw = random.Random(options.seed)
  with tempfile.TemporaryDirectory() as folder:
    uninterrupted = Path(folder) / "uninterrupted"
    killed = Path(folder) / "killed"
    began = time.monotonic()
    process = start(options.arguments, uninterrupted)
    output, _ = process.communicate()
    if process.returncode:
      print(output)
      return 1
    duration = time.monotonic() - began
    resumed, kill_times = [], []
    for _ in range(options.times):
      process = start(options.arguments, killed)
      began = time.monotonic()
      while not any((killed / "checkpoints").glob("[0-9]*")):
        time.sleep(0.01)
      kill_time = draw.uniform(0, duration / options.times)
      time.sleep(max(0.0, kill_time - (time.monotonic() - began)))
      if process.poll() is not None:
        print("the run finished before the last kill; set more --config.steps")
        return 1
      process.kill()
      kill_times.append(time.monotonic() - began)
      resumed += resumed_steps(process)
    process = start(options.arguments, killed)
    resumed += resumed_steps(process)
    expected, result = (
      json.loads((workdir / "result.json").read_text())
      for workdir in (uninterrupted, killed)
    )
  equal = all(expected[key] == result[key] for key in ("params_sha256", "state_sha256"))
  print(f"uninterrupted: {duration:.0f} s, state {expected['state_sha256'][:16]}")
  print(f"killed {', '.join(f'{t:.1f}' for t in kill_times)} s after each start")
  print(f"resumed at steps {', '.join(map(str, resumed))}")
  print(f"state {result['state_sha256'][:16]}: {'equal' if equal else 'DIFFERENT'}")
  return 0 if equal and resumed and min(resumed) > 0 else 1


def start(arguments: list[str], workdir: Path) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, "-m", "ssljax.main", f"--workdir={workdir}", *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def resumed_steps(process: subprocess.Popen) -> list[int]:
  """Waits for the process; returns the step at which it resumed, if any."""
  output, _ = process.communicate()
  return [int(step) for step in re.findall(r"resumed at step (\d+)", output)]


if __name__ == "__main__":
  sys.exit(main())

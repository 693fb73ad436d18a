"""Kills a run with SIGKILL at random moments and compares its bits with a straight one.

  python -m benchmarks.kill --times=5 -- --config=configs/fixmatch.py \\
    --config.data=pyrit --config.encoder=sentence-transformers/all-MiniLM-L6-v2 \\
    --config.max_length=32 --config.batch=4 --config.steps=600 \\
    --config.checkpoint_every=5 --config.eval_every=30

The first kill waits for the first checkpoint; of N kills each comes at a moment drawn
evenly from the first N-th of the time that the straight run took. Exit code 0 if every
restart went on at a step above 0 and both hashes are equal.
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
    straight, killed = Path(folder) / "straight", Path(folder) / "killed"
    began = time.monotonic()
    process = start(options.arguments, straight)
    printed, _ = process.communicate()
    if process.returncode:
      print(printed)
      return 1
    took = time.monotonic() - began
    resumed, moments = [], []
    for _ in range(options.times):
      process = start(options.arguments, killed)
      began = time.monotonic()
      while not any((killed / "checkpoints").glob("[0-9]*")):
        time.sleep(0.01)
      moment = draw.uniform(0, took / options.times)
      time.sleep(max(0.0, moment - (time.monotonic() - began)))
      if process.poll() is not None:
        print("the run ended before it could be killed as often: give it more steps")
        return 1
      process.kill()
      moments.append(time.monotonic() - began)
      resumed += said(process)
    process = start(options.arguments, killed)
    resumed += said(process)
    one, other = (
      json.loads((place / "result.json").read_text()) for place in (straight, killed)
    )
  equal = all(one[key] == other[key] for key in ("params_sha256", "state_sha256"))
  print(f"straight: {took:.0f} s, state {one['state_sha256'][:16]}")
  print(f"killed after {', '.join(f'{m:.1f}' for m in moments)} s of each start")
  print(f"went on at steps {', '.join(map(str, resumed))}")
  print(f"state {other['state_sha256'][:16]}: {'equal' if equal else 'DIFFERENT'}")
  return 0 if equal and resumed and min(resumed) > 0 else 1


def start(arguments: list[str], workdir: Path) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, "-m", "ssljax.main", f"--workdir={workdir}", *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def said(process: subprocess.Popen) -> list[int]:
  """Waits for the end; the step at which it went on, if it said one."""
  printed, _ = process.communicate()
  return [int(step) for step in re.findall(r"resumed at step (\d+)", printed)]


if __name__ == "__main__":
  sys.exit(main())

"""Measures how well the LLM engine keeps a server busy: time with all slots in use.

  python -m benchmarks.llm_client --texts=64
  python -m benchmarks.llm_client --url=http://127.0.0.1:8000/v1 --model=NAME --slots=16

Without --url it starts launch/llm_server.py with SmolLM2-135M and 4 slots. The texts
are random words, of different lengths. `--texts` must not be too small, because slots
are idle during the last answers of any client. The target is above 0.95.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ssljax.augment import engines
from ssljax.augment.engine import Source

ROOT = Path(__file__).parent.parent
MODEL = "smollm2-135m-instruct-q4"
TARGET = 0.95
WORDS = ("how", "long", "must", "the", "baker", "knead", "a", "dark", "loaf")


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument("--url", default="")
  parser.add_argument("--model", default=MODEL)
  parser.add_argument("--slots", type=int, default=4)
  parser.add_argument("--texts", type=int, default=64)
  parser.add_argument("--most", type=int, default=0, help="max_tokens of an answer")
  parser.add_argument("--prompt", default="light")
  parser.add_argument("--threads", type=int, default=1, help="of the server")
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args()
  rng = random.Random(options.seed)
  texts = [
    " ".join(rng.choices(WORDS, k=rng.randint(5, 60))) for _ in range(options.texts)
  ]
  sources = [Source(str(i), f"{text} {i}") for i, text in enumerate(texts)]
  with contextlib.ExitStack() as stack:
    url = options.url or stack.enter_context(start_server(options))
    keywords = {
      "base_url": url,
      "model": options.model,
      "prompt": options.prompt,
      "concurrency": options.slots,
      "max_tokens": options.most,
      "timeout": 600.0,
      "seed": options.seed,
    }
    engine = engines.make("llm", keywords)
    began = time.monotonic()
    candidates = [candidate for _, (candidate,) in engine.make(sources, 0)]
    seconds = time.monotonic() - began
  problems = collections.Counter(c.problem for c in candidates if c.problem)
  usage = engine.usage()
  result = {
    "slots": options.slots,
    "texts": options.texts,
    "seconds": round(seconds, 2),
    "seconds_per_text": round(seconds / options.texts, 3),
    "requests_per_second": round(usage["requests"] / seconds, 3),
    "prompt_tokens_per_second": round(usage["prompt_tokens"] / seconds, 1),
    "completion_tokens_per_second": round(usage["completion_tokens"] / seconds, 1),
    "all_slots_busy": round(usage["full"], 4),
    "problems": problems,
    "niceness": os.nice(0),
    "load": round(os.getloadavg()[0], 1),
    "cores": os.cpu_count(),
  }
  print(json.dumps(result, indent=2))
  # If most answers are problems, the share of busy slots means nothing.
  valid = problems.total() < options.texts / 2
  return 0 if valid and result["all_slots_busy"] > TARGET else 1


@contextlib.contextmanager
def start_server(options: argparse.Namespace) -> Iterator[str]:
  """Starts a server process; yields its address."""
  command = [sys.executable, "launch/llm_server.py", f"--model={options.model}"]
  command += ["--port=0", f"--slots={options.slots}", f"--threads={options.threads}"]
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  with subprocess.Popen(
    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
  ) as process:
    try:
      line = process.stdout.readline().split()
      if not line:
        sys.exit(f"the server failed to start: {' '.join(command)}")
      yield line[-1]
    finally:
      process.terminate()


if __name__ == "__main__":
  sys.exit(main())

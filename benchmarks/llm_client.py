"""How well the LLM engine keeps a server busy: share of the time with all slots in use.

  python -m benchmarks.llm_client --texts=64
  python -m benchmarks.llm_client --url=http://127.0.0.1:8000/v1 --model=NAME --slots=16

Without --url it starts launch/llm_server.py with SmolLM2-135M and 4 slots. The last
answers leave slots empty whatever the client does, so `--texts` is not small. Made-up
texts of different lengths; everything stays on this machine. The aim is above 0.95.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ssljax.augment.engine import Source
from ssljax.augment.engines.llm import engine as llm

ROOT = Path(__file__).parent.parent
SMALL = "smollm2-135m-instruct-q4"
AIM = 0.95
WORDS = (
  "how",
  "long",
  "must",
  "the",
  "baker",
  "knead",
  "a",
  "dark",
  "loaf",
  "at",
  "home",
)


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument("--url", default="")
  parser.add_argument("--model", default=SMALL)
  parser.add_argument("--slots", type=int, default=4)
  parser.add_argument("--texts", type=int, default=64)
  parser.add_argument("--most", type=int, default=0, help="tokens of an answer")
  parser.add_argument("--prompt", default="light")
  parser.add_argument("--threads", type=int, default=1, help="of the server started")
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args()
  draw = random.Random(options.seed)
  texts = [
    " ".join(draw.choices(WORDS, k=draw.randint(5, 60))) for _ in range(options.texts)
  ]
  sources = [Source(str(i), f"{text} {i}") for i, text in enumerate(texts)]
  with contextlib.ExitStack() as stack:
    url = options.url or stack.enter_context(server(options))
    engine = llm.make(
      base_url=url,
      model=options.model,
      prompt=options.prompt,
      concurrency=options.slots,
      max_tokens=options.most,
      timeout=600.0,
      seed=options.seed,
    )
    began = time.monotonic()
    problems: dict[str, int] = {}
    for _, (candidate,) in engine.make(sources, 0):
      if candidate.problem:
        problems[candidate.problem] = problems.get(candidate.problem, 0) + 1
    seconds = time.monotonic() - began
  usage = dict(engine.usage())
  found = {
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
  print(json.dumps(found, indent=2))
  # Slots that are busy with answers that are none say nothing.
  fine = sum(problems.values()) < options.texts / 2
  return 0 if fine and found["all_slots_busy"] > AIM else 1


@contextlib.contextmanager
def server(options: argparse.Namespace) -> Iterator[str]:
  """A server in a process of its own; its address."""
  command = [sys.executable, "launch/llm_server.py", f"--model={options.model}"]
  command += ["--port=0", f"--slots={options.slots}", f"--threads={options.threads}"]
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  with subprocess.Popen(
    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
  ) as process:
    try:
      said = process.stdout.readline().split()
      if not said:
        sys.exit(f"no server: {' '.join(command)} ended")
      yield said[-1]
    finally:
      process.terminate()


if __name__ == "__main__":
  sys.exit(main())

"""Injects faults into the commands, and counts how the commands end.

  python -m benchmarks.faults                       # all commands and faults
  python -m benchmarks.faults --quick               # two trials of each
  python -m benchmarks.faults --commands=main --faults=kill,twice --trials=50

The commands are real processes that work on small files in a temporary folder; every
trial starts with the same files. The faults:

- kill: SIGKILL at a random moment, one to three times; then the command runs again
- signal: SIGTERM or SIGINT at a random moment; then the command runs again
- corrupt: a flipped bit, cleared bytes or a lost end in a file that the command reads
- disk: no file may grow beyond a random size, as if the disk were full; then the
  command runs again without this limit
- twice: two processes run the same command at the same time

After each trial, the results are compared with those of an undisturbed command. The
program prints a Markdown table of the outcomes, and then each bad one. The exit code is
0 if there is none. The outcomes:

- same: the results are the same
- refused: an error message without results, exit code 1 or 2
- said: other results, and a line about what was damaged
- wrong, traceback, hang, left: bad; "left" means temporary files that nobody deletes
"""

import argparse
import collections
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.fault_cases import CASES, Place, finish

OUTCOMES = ("same", "refused", "said", "wrong", "traceback", "hang", "left")
BAD = OUTCOMES[3:]
LEAST_FILE = 4096  # bytes; standard output must fit
SAID = re.compile("damaged|has changed|cannot be read")


def judge(place: Place, name: str, code: int | None, output: str) -> str:
  """The outcome of a command that ran without a fault, or with damaged files."""
  expected_code, expected = place.expected[name]
  if code is None:
    return "hang"
  if "Traceback (most recent call last)" in output:
    return "traceback"
  results = place.results(CASES[name])
  if results == expected:
    return "left" if place.left() else "same"
  if code == expected_code:
    return "said" if SAID.search(output) else "wrong"
  return "refused" if code in (1, 2) else "wrong"


def stop(
  place: Place, name: str, number: int, draw: random.Random
) -> tuple[int | None, str]:
  """Starts a command and sends a signal at a random moment."""
  process = place.start(CASES[name])
  time.sleep(draw.uniform(0, place.seconds[name]))
  process.send_signal(number)
  return finish(process)


def rerun(place: Place, name: str) -> tuple[str, str]:
  code, output = place.run(CASES[name])
  return judge(place, name, code, output), output


def kill(place: Place, name: str, draw: random.Random) -> tuple[str, str]:
  for _ in range(draw.randint(1, 3)):
    stop(place, name, signal.SIGKILL, draw)
  return rerun(place, name)


def interrupt(place: Place, name: str, draw: random.Random) -> tuple[str, str]:
  number = draw.choice((signal.SIGTERM, signal.SIGINT))
  code, output = stop(place, name, number, draw)
  if code is None:
    return "hang", output
  # Before a command has installed its handlers, Python's own handlers act.
  if "Traceback" in output and "KeyboardInterrupt" not in output:
    return "traceback", output
  return rerun(place, name)


def corrupt(place: Place, name: str, draw: random.Random) -> tuple[str, str]:
  path = draw.choice(place.files(CASES[name].reads))
  content = bytearray(path.read_bytes())
  at = draw.randrange(len(content) or 1)
  kind = draw.choice(("a flipped bit", "cleared bytes", "a lost end"))
  if kind == "a flipped bit" and content:
    content[at] ^= 1 << draw.randrange(8)
  elif kind == "cleared bytes":
    content[at : at + 64] = bytes(len(content[at : at + 64]))
  else:
    del content[at:]
  path.write_bytes(content)
  code, output = place.run(CASES[name])
  said = f"{kind} at byte {at} of {path.relative_to(place.path)}: {output}"
  return judge(place, name, code, output), said


def disk(place: Place, name: str, draw: random.Random) -> tuple[str, str]:
  sizes = [path.stat().st_size for path in place.path.rglob("*") if path.is_file()]
  limit = round(LEAST_FILE * (max(sizes) / LEAST_FILE) ** draw.random())
  process = place.start(CASES[name])
  resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
  code, output = finish(process)
  if code is None:
    return "hang", output
  if "Traceback (most recent call last)" in output:
    return "traceback", f"files of at most {limit} bytes: {output}"
  if code == place.expected[name][0]:
    outcome = judge(place, name, code, output)
    return outcome, f"files of at most {limit} bytes: {output}"
  return rerun(place, name)


def twice(place: Place, name: str, draw: random.Random) -> tuple[str, str]:
  processes = [place.start(CASES[name])]
  time.sleep(draw.uniform(0, place.seconds[name] / 2))
  processes.append(place.start(CASES[name]))
  ends = [finish(process) for process in processes]
  outcomes = [judge(place, name, *end) for end in ends]
  output = "\n".join(output for _, output in ends)
  return max(outcomes, key=OUTCOMES.index), output


FAULTS: dict[str, Callable[[Place, str, random.Random], tuple[str, str]]] = {
  "kill": kill,
  "signal": interrupt,
  "corrupt": corrupt,
  "disk": disk,
  "twice": twice,
}


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--trials", type=int, default=20, help="of each pair")
  parser.add_argument("--quick", action="store_true", help="two trials of each pair")
  parser.add_argument("--commands", default=",".join(CASES))
  parser.add_argument("--faults", default=",".join(FAULTS))
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args()
  trials = 2 if options.quick else options.trials
  counts: dict[tuple[str, str], collections.Counter[str]] = {}
  bad = []
  with tempfile.TemporaryDirectory() as folder:
    place = Place(Path(folder))
    place.make_files()
    for name in options.commands.split(","):
      place.measure(name)
      for fault in options.faults.split(","):
        counted = counts.setdefault((name, fault), collections.Counter())
        for trial in range(trials):
          place.reset()
          draw = random.Random(f"{options.seed} {name} {fault} {trial}")
          outcome, output = FAULTS[fault](place, name, draw)
          counted[outcome] += 1
          if outcome in BAD:
            bad.append(f"{outcome}: {name}, {fault}, trial {trial}: {output[-1000:]}")
            if outcome == "left":
              bad[-1] += f" {sorted(place.left())}"
        print(f"{name}, {fault}: {dict(counted)}", file=sys.stderr)
  print(table(counts))
  print(*bad, sep="\n\n")
  return 1 if bad else 0


def table(counts: dict[tuple[str, str], collections.Counter[str]]) -> str:
  lines = [f"| command | fault | trials | {' | '.join(OUTCOMES)} |"]
  lines.append("|---" * (3 + len(OUTCOMES)) + "|")
  total = sum(counts.values(), collections.Counter())
  for (name, fault), counted in [*counts.items(), (("all", "all"), total)]:
    cells = [name, fault, counted.total(), *(counted[name] for name in OUTCOMES)]
    lines.append(f"| {' | '.join(map(str, cells))} |")
  return "\n".join(lines)


if __name__ == "__main__":
  os.environ.setdefault("JAX_PLATFORMS", "cpu")
  sys.exit(main())

"""Injects faults into the commands, and counts how the commands end.

  python -m benchmarks.faults --trials=3 --output=faults.jsonl
  python -m benchmarks.faults --only=main,export --faults=kill,twice --trials=50

The commands are real processes that work on small files in a temporary folder; every
trial starts with the same files. The faults:

- kill: SIGKILL at a random moment, one to three times; then the command runs again
- signal: SIGTERM or SIGINT at a random moment; then the command runs again
- corrupt: a flipped bit, cleared bytes or a lost end in a file that the command reads
- disk: files have a limit of size, as if the disk were full; then it runs without one
- twice: two processes run the same command. In most trials, the first one is stopped
  (SIGSTOP) at a random moment, and continues when the second one has ended
- rank: SIGKILL of a process of launch/local.py
- pair: the same as twice with two different commands

After each trial, the results are compared with those of an undisturbed command;
benchmarks/fault_outcomes.py says what the outcomes mean. The program prints a Markdown
table of them, and then each bad one; the exit code is 1 if there is one. A trial "hit"
if the fault reached a command at work: if it noticed the damage; if one of two commands
was refused, or both were at work.

With --output, trials are appended to a JSONL file; a second call makes only the others.
"""

import argparse
import collections
import importlib.util
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import fault_outcomes as outcomes
from benchmarks.fault_cases import CASES, PATIENCE, Case, Place
from benchmarks.fault_processes import WORKS, End, Process, preload

SHOWN = 2000  # characters of the output of a bad trial


class Trial(NamedTuple):
  outcome: str
  hit: bool
  output: str


def wait(place: Place, name: str, draw: random.Random) -> None:
  """Waits for a random moment: of the whole command, or while it writes."""
  end = 0.9 * place.seconds[name]  # most commands are still at work then
  time.sleep(draw.uniform(draw.choice((0.0, min(place.quiet[name], end))), end))


def works(place: Place, case: Case, process: Process) -> bool:
  """Whether a command is at work; a launcher must have begun to write."""
  return process.phase == WORKS and (case.processes == 1 or place.is_written())


def again(place: Place, name: str, hit: bool, before: str) -> Trial:
  """Runs a command again after a fault, and compares its results."""
  case = CASES[name]
  end = place.run(case)
  expected, found, left = place.expected[name], place.results(case), place.left()
  outcome = outcomes.after_fault(case, expected, end, found, left)
  return Trial(outcome, hit, f"{before}\nthen: exit code {end.code}: {end.output}")


def kill(place: Place, name: str, draw: random.Random) -> Trial:
  hit, outputs = False, []
  for _ in range(draw.randint(1, 3) if CASES[name].processes == 1 else 1):
    process = place.start(CASES[name])
    wait(place, name, draw)
    at_work = works(place, CASES[name], process)
    at_work = process.send(signal.SIGKILL) and at_work
    end = process.finish(PATIENCE)
    hit |= at_work and end.code == -signal.SIGKILL
    outputs.append(f"exit code {end.code}: {end.output}")
    if end.code is None:
      return Trial("hang", hit, outputs[-1])
  return again(place, name, hit, "\n".join(outputs))


def rank(place: Place, name: str, draw: random.Random) -> Trial:
  process = place.start(CASES[name])
  wait(place, name, draw)
  children = process.children()
  if children:
    os.kill(draw.choice(children), signal.SIGKILL)
  end = process.finish(PATIENCE)
  output = f"exit code {end.code}: {end.output}"
  # The launcher passes on the code of the killed process, or of one that misses it.
  if end.code is None or (children and end.code < 0):
    return Trial(outcomes.broken(end), bool(children), output)
  return again(place, name, bool(children) and end.code != 0, output)


def interrupt(place: Place, name: str, draw: random.Random) -> Trial:
  number = draw.choice((signal.SIGTERM, signal.SIGINT))
  process = place.start(CASES[name])
  wait(place, name, draw)
  at_work = process.phase == WORKS
  at_work = process.send(number) and at_work
  end = process.finish(PATIENCE)
  output = f"{number.name}: exit code {end.code}: {end.output}"
  if end.code is None:
    return Trial("hang", at_work, output)
  if at_work:  # otherwise Python itself acts, since it still imports, or ends
    case, expected = CASES[name], place.expected[name]
    if bad := outcomes.after_signal(case, expected, end, number):
      return Trial(bad, True, output)
  return again(place, name, at_work, output)


def corrupt(place: Place, name: str, draw: random.Random) -> Trial:
  case = CASES[name]
  files = [path for path in place.files(case.reads) if path.stat().st_size]
  sizes = [path.stat().st_size for path in files]
  # In half of the trials, each byte is as likely as any other.
  (path,) = draw.choices(files, draw.choice((None, sizes)))
  before = path.read_bytes()
  content, at = bytearray(before), draw.randrange(len(before))
  kind = draw.choice(("a flipped bit", "cleared bytes", "a lost end"))
  if kind == "cleared bytes":
    content[at : at + 64] = bytes(len(content[at : at + 64]))
  elif kind == "a lost end":
    del content[at:]
  if content == before:  # a flipped bit, or the bytes were zero
    kind = "a flipped bit"
    content[at] ^= 1 << draw.randrange(8)
  path.write_bytes(content)
  name_of_file = str(path.relative_to(place.path))
  # The damaged file may be one that the command replaces.
  expected = place.expected[name]._replace(before=place.results(case))
  end = place.run(case)
  outcome = outcomes.after_damage(
    case, expected, end, place.results(case), place.left(), name_of_file
  )
  where = f"{kind} at byte {at} of {name_of_file}"
  hit = outcome != "same" or outcomes.names(end.output, name_of_file)
  return Trial(outcome, hit, f"{where}: exit code {end.code}: {end.output}")


def disk(place: Place, name: str, draw: random.Random) -> Trial:
  case, expected = CASES[name], place.expected[name]
  limit = draw.randrange(draw.choice(place.sizes[name]))
  end = place.start(case, limit).finish(PATIENCE)
  output = f"files of at most {limit} bytes: exit code {end.code}: {end.output}"
  found, left = place.results(case), place.left()
  outcome = outcomes.on_full_disk(case, expected, end, found, left)
  hit = outcome != "same" or "too large" in end.output.lower()
  if outcome in outcomes.BAD:
    return Trial(outcome, hit, output)
  return again(place, name, hit, output)


def two(
  place: Place, cases: Iterable[Case], name: str, draw: random.Random
) -> tuple[list[End], bool, bool]:
  """Runs two commands at the same time.

  Returns:
    How they ended, whether the first one was stopped in the middle of its work while
    the second one ran, and whether both were surely at work at the same time.
  """
  first_case, second_case = cases
  first = place.start(first_case)
  stop, at_work = draw.random() < 0.75, False
  if stop:
    deadline = time.monotonic() + PATIENCE
    while first.is_alive() and not place.is_written() and time.monotonic() < deadline:
      time.sleep(0.001)
    time.sleep(draw.uniform(0, place.seconds[name] - place.quiet[name]))
    first.send(signal.SIGSTOP)
    time.sleep(0.01)  # until it is stopped
    at_work = first.phase == WORKS and first.is_alive() and place.is_written()
    at_work = at_work and place.results(first_case) != place.expected[name].results
  else:
    wait(place, name, draw)
  second = place.start(second_case)
  ends: dict[Process, End] = {}
  if stop:
    # Should it wait for the first one, that must continue.
    deadline = time.monotonic() + 10 + 5 * place.seconds[name]
    while second.is_alive() and time.monotonic() < deadline:
      time.sleep(0.005)
    at_work = at_work and not second.is_alive()
    first.send(signal.SIGCONT)
  for process in (first, second):
    ends[process] = process.finish(PATIENCE)
  hit = at_work or any(outcomes.BUSY.search(end.output) for end in ends.values())
  return [ends[first], ends[second]], at_work, hit


def twice(place: Place, name: str, draw: random.Random) -> Trial:
  case, expected = CASES[name], place.expected[name]
  ends, at_work, hit = two(place, (case, case), name, draw)
  outcome = outcomes.together(
    case, expected, ends, place.results(case), place.left(), at_work
  )
  return Trial(outcome, hit, f"at work: {at_work}\n{_said(ends)}")


def pair(place: Place, name: str, draw: random.Random) -> Trial:
  case = CASES[name]
  cases = (case, CASES[case.other])
  codes, allowed = place.pairs[name]
  ends, _, hit = two(place, cases, name, draw)
  output = _said(ends)
  if case.again and not (bad := outcomes.bad_end(cases[1], codes[1], ends[1])):
    ends[1] = place.run(cases[1])
    output += f"\nthen: exit code {ends[1].code}: {ends[1].output}"
  elif case.again:
    return Trial(bad, hit, output)
  found, left = place.results(case), place.left()
  outcome = outcomes.of_pair(cases, codes, ends, found, left, allowed)
  return Trial(outcome, hit, output)


def _said(ends: Iterable[End]) -> str:
  return "\n".join(f"exit code {end.code}: {end.output}" for end in ends)


FAULTS: dict[str, Callable[[Place, str, random.Random], Trial]] = {
  "kill": kill,
  "signal": interrupt,
  "corrupt": corrupt,
  "disk": disk,
  "twice": twice,
  "rank": rank,
  "pair": pair,
}
Key = tuple[int, str, str, int]  # seed, case, fault, trial


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--trials", type=int, default=20, help="of each pair")
  parser.add_argument("--only", default=",".join(CASES), help="cases")
  parser.add_argument("--faults", default=",".join(FAULTS))
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--output", type=Path, help="JSONL file of the trials")
  options = parser.parse_args()
  only, faults = options.only.split(","), options.faults.split(",")
  if not importlib.util.find_spec("torch"):  # converting needs it
    only = [name for name in only if name != "convert"]
  for given, known in ((only, CASES), (faults, FAULTS)):
    if unknown := set(given).difference(known):
      parser.error(f"{', '.join(sorted(unknown))}: unknown; one of {', '.join(known)}")
  wanted: list[Key] = [
    (options.seed, name, fault, trial)
    for name in CASES
    for fault in FAULTS
    for trial in range(options.trials)
    if name in only and fault in faults and fault in CASES[name].faults
  ]
  rows = read(options.output) if options.output else {}
  missing = [key for key in wanted if key not in rows]
  if missing:
    run(missing, rows, options.output)
  made = [rows[key] for key in wanted]
  print(table(made))
  bad = [row for row in made if row["outcome"] in outcomes.BAD]
  for row in bad:
    where = f"{row['case']}, {row['fault']}, trial {row['trial']}"
    print(f"\n{row['outcome']}: {where}: {row['output']}")
  return 1 if bad else 0


def run(missing: list[Key], rows: dict[Key, dict[str, Any]], file: Path | None) -> None:
  """Makes trials; adds them to `rows`, and appends them to the file."""
  preload()
  if file and file.exists() and not file.read_bytes().endswith(b"\n"):
    with open(file, "a") as lines:
      lines.write("\n")  # a kill has cut the last line off
  # Not a TemporaryDirectory, which forked processes would delete when they end.
  folder = Path(tempfile.mkdtemp(prefix="faults-"))
  try:
    place = Place(folder)
    place.make_files()
    for name, keys in itertools.groupby(missing, key=lambda key: key[1]):
      place.measure(name)
      print(f"{name}: {place.seconds[name]:.1f} s without a fault", file=sys.stderr)
      for key in keys:
        seed, _, fault, number = key
        place.reset()
        draw = random.Random(f"{seed} {name} {fault} {number}")
        began = time.monotonic()
        trial = FAULTS[fault](place, name, draw)
        output = trial.output
        if trial.outcome == "left":
          output += f" {sorted(place.left())}"
        rows[key] = row = {
          "seed": seed,
          "case": name,
          "fault": fault,
          "trial": number,
          "outcome": trial.outcome,
          "hit": trial.hit,
          "seconds": round(time.monotonic() - began, 1),
          "output": output[-SHOWN:],
        }
        print(*list(row.values())[1:-1], file=sys.stderr)
        if file:
          with open(file, "a") as lines:
            lines.write(json.dumps(row) + "\n")
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def read(file: Path) -> dict[Key, dict[str, Any]]:
  """The trials of earlier calls; a line that a kill has cut off is left out."""
  rows = {}
  for line in file.read_text().splitlines() if file.exists() else ():
    try:
      row = json.loads(line)
    except ValueError:
      continue
    rows[row["seed"], row["case"], row["fault"], row["trial"]] = row
  return rows


def table(rows: Iterable[dict[str, Any]]) -> str:
  """Counts the outcomes of each case and fault, and of all of them."""
  counts: dict[tuple[str, str], collections.Counter[str]] = {}
  for row in rows:
    for key in ((row["case"], row["fault"]), ("all", "all")):
      counted = counts.setdefault(key, collections.Counter())
      counted.update(trials=1, hit=int(row["hit"]))
      counted[row["outcome"]] += 1
  total = counts.pop(("all", "all"), collections.Counter())
  columns = ("trials", "hit", *outcomes.OUTCOMES)
  lines = [f"| command | fault | {' | '.join(columns)} |"]
  lines.append("|---" * (2 + len(columns)) + "|")
  for (name, fault), counted in [*counts.items(), (("all", "all"), total)]:
    cells = [name, fault, *(counted[column] for column in columns)]
    lines.append(f"| {' | '.join(map(str, cells))} |")
  return "\n".join(lines)


if __name__ == "__main__":
  os.environ.setdefault("JAX_PLATFORMS", "cpu")
  sys.exit(main())

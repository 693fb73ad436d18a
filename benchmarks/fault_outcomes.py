"""What the end of a command, and what it has left, mean after a fault.

- same: right: the results of an undisturbed command
- refused: right after damage, or if another process is at work: one line, no results
- said: right after damage: other results, and a line that names what was damaged
- wrong: other results or another exit code, without a word
- stuck: the command is refused, though nothing is in its way any more
- traceback, hang
- left: temporary files that nobody deletes
"""

import re
import signal
from collections.abc import Mapping, Sequence, Set
from pathlib import PurePath

from benchmarks.fault_cases import Case, Expected
from benchmarks.fault_processes import End
from benchmarks.fault_results import LOGS

RIGHT = ("same", "refused", "said")
BAD = ("wrong", "stuck", "traceback", "hang", "left")
OUTCOMES = RIGHT + BAD
DAMAGED = re.compile("damaged|changed|cannot be read|can't be read|skipped")
EXISTS = re.compile(r"\bexists\b")
BUSY = re.compile("has been writing to it since|another process is writing")
SIGNAL_CODES = {
  # A command without unsaved work ends by SIGTERM itself; a shell shows that as 143.
  signal.SIGTERM: (143, -signal.SIGTERM),
  signal.SIGINT: (130,),
}
Results = Mapping[str, str]


def errors(case: Case, output: str) -> list[str]:
  """The lines with an error; several processes may print the same one."""
  lines = [re.sub(r"^\[\d+\] ", "", line) for line in output.splitlines()]
  found = [line for line in lines if line.startswith("error: ")]
  return list(dict.fromkeys(found)) if case.processes > 1 else found


def broken(end: End) -> str:
  """The outcome if a command ended in a way that's always bad; otherwise ""."""
  if end.code is None:
    return "hang"
  if "Traceback (most recent call last)" in end.output:
    return "traceback"
  return "" if end.code >= 0 else "wrong"


def refused(case: Case, expected: Expected, end: End) -> bool:
  """Whether a command ended with one line and an exit code for errors."""
  code = end.code in (1, 2) and end.code != expected.code
  return code and 0 < len(errors(case, end.output)) <= case.processes


def finished(case: Case, expected: Expected, end: End) -> bool:
  return end.code == expected.code and not errors(case, end.output)


def after_fault(
  case: Case, expected: Expected, end: End, results: Results, left: Set[str]
) -> str:
  """The outcome of a command that runs again after a fault: only "same" is right."""
  if bad := broken(end):
    return bad
  if refused(case, expected, end):
    had_finished = case.once and EXISTS.search(errors(case, end.output)[0])
    if not had_finished or BUSY.search(end.output):
      return "stuck"
  elif not finished(case, expected, end):
    return "wrong"
  if results != expected.results:
    return "wrong"
  return "left" if left else "same"


def nothing_wrong(expected: Expected, results: Results) -> bool:
  """Whether each file is as before or as expected, or is missing."""
  before, after = expected.before, expected.results
  return all(
    results.get(name) in (before.get(name), after.get(name))
    for name in {*before, *after, *results}
    if PurePath(name).name not in LOGS
  )


def after_damage(
  case: Case,
  expected: Expected,
  end: End,
  results: Results,
  left: Set[str],
  damaged: str,
) -> str:
  """The outcome of a command that reads a damaged file, named by its relative path."""
  if bad := broken(end):
    return bad
  if refused(case, expected, end):
    if not nothing_wrong(expected, results):
      return "wrong"
    return "left" if left else "refused"
  if not finished(case, expected, end):
    return "wrong"
  if results != expected.results:
    return "said" if names(end.output, damaged) else "wrong"
  return "left" if left else "same"


def names(output: str, damaged: str) -> bool:
  """Whether a line says that this file, its folder or its checkpoint is damaged."""
  path = PurePath(damaged)
  folders = [str(folder) for folder in path.parents if len(folder.parts) > 1]
  found = [re.escape(name) for name in (path.name, *folders)]
  if "checkpoints" in path.parts:
    found.append(rf"\bof step {path.parts[path.parts.index('checkpoints') + 1]}:")
  return any(
    DAMAGED.search(line) and re.search("|".join(found), line)
    for line in output.splitlines()
  )


def after_signal(case: Case, expected: Expected, end: End, number: int) -> str:
  """ "" if a command that was at work ended as promised; otherwise the outcome."""
  if end.code is None or "Traceback (most recent call last)" in end.output:
    return broken(end)
  return "" if end.code in (expected.code, *SIGNAL_CODES[number]) else "wrong"


def on_full_disk(
  case: Case, expected: Expected, end: End, results: Results, left: Set[str]
) -> str:
  """The outcome of a command whose disk is full, before it runs again."""
  if not refused(case, expected, end):
    return after_fault(case, expected, end, results, left)
  return "refused" if nothing_wrong(expected, results) else "wrong"


def together(
  case: Case,
  expected: Expected,
  ends: Sequence[End],
  results: Results,
  left: Set[str],
  at_work: bool,
) -> str:
  """The outcome of two processes that ran the same command.

  Args:
    at_work: whether the first process was stopped in the middle of its work while the
      second one ran.
  """
  for end in ends:
    if bad := broken(end):
      return bad
  done = [finished(case, expected, end) for end in ends]
  for end, is_done in zip(ends, done, strict=True):
    if not is_done:
      if not refused(case, expected, end):
        return "wrong"
      line = errors(case, end.output)[0]
      if not BUSY.search(line) and not (case.once and EXISTS.search(line)):
        return "wrong"
  if not any(done):
    return "stuck"
  if all(done) and (at_work or case.once):
    return "wrong"  # neither was refused
  if results != expected.results:
    return "wrong"
  return "left" if left else "same"


def bad_end(case: Case, code: int, end: End) -> str:
  """ "" if a command has finished or was refused; otherwise the outcome."""
  expected = Expected(code, {}, {})
  right = finished(case, expected, end) or refused(case, expected, end)
  return broken(end) or ("" if right else "wrong")


def of_pair(
  cases: Sequence[Case],
  codes: Sequence[int],
  ends: Sequence[End],
  results: Results,
  left: Set[str],
  allowed: Mapping[str, Sequence[Results]],
) -> str:
  """The outcome of two different commands in the same place.

  Args:
    codes: exit codes of the commands without the other one.
    allowed: the right results if "both", only the "first" or only the "second" finish.
  """
  done = []
  for case, code, end in zip(cases, codes, ends, strict=True):
    if bad := bad_end(case, code, end):
      return bad
    done.append(finished(case, Expected(code, {}, {}), end))
  if not any(done):
    return "stuck"
  which = "both" if all(done) else "first" if done[0] else "second"
  if results not in allowed[which]:
    return "wrong"
  return "left" if left else "same"

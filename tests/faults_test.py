"""What `benchmarks.faults` counts as right, on recorded ends of commands."""

import json
import random
import signal
import time

import pytest

from benchmarks import fault_outcomes, fault_results, faults
from benchmarks.fault_cases import CASES, Case, Expected
from benchmarks.fault_processes import WORKS, End

RIGHT = {"out/page.html": "a"}
REPORT = Case("ssljax.report", (), ("out/*",))
EXPORT = REPORT._replace(once=True)
EXPECTED = Expected(0, RIGHT, {})
DONE = End(0, "1 run: out/page.html")
MISSING = End(2, "error: run: cannot be read")
EXISTS = End(2, "error: --output=out exists; name a new folder")
HELD = End(2, "error: --output=out: process 7 on h has been writing to it since 9:00")
KILLED = End(-11, "")
TRACEBACK = End(1, "Traceback (most recent call last):\n  ...\nKeyError: 'x'")


@pytest.mark.parametrize(
  ("case", "end", "results", "outcome"),
  [
    (REPORT, DONE, RIGHT, "same"),
    (EXPORT, EXISTS, RIGHT, "same"),  # it had finished before it was killed
    (REPORT, EXISTS, RIGHT, "stuck"),  # this one replaces what it has written
    (REPORT, HELD, {}, "stuck"),  # a lock file that refuses forever
    (EXPORT, HELD, {}, "stuck"),
    (EXPORT, HELD, RIGHT, "stuck"),
    (REPORT, MISSING, {}, "stuck"),
    (REPORT, KILLED, RIGHT, "wrong"),
    (REPORT, DONE, {"out/page.html": "b"}, "wrong"),
    (REPORT, DONE, {}, "wrong"),
    (REPORT, End(1, ""), RIGHT, "wrong"),  # no line says why
    (REPORT, TRACEBACK, RIGHT, "traceback"),
    (REPORT, End(None, ""), RIGHT, "hang"),
  ],
)
def test_after_a_kill_only_the_same_results_are_right(case, end, results, outcome):
  assert fault_outcomes.after_fault(case, EXPECTED, end, results, set()) == outcome


def test_temporary_files_that_are_left_are_an_outcome():
  left = {"out/.page.1234"}
  assert fault_outcomes.after_fault(REPORT, EXPECTED, DONE, RIGHT, left) == "left"


@pytest.mark.parametrize(
  ("end", "results", "outcome"),
  [
    (MISSING, {}, "refused"),
    (MISSING, {"out/page.html": "b"}, "wrong"),  # refused, but with other results
    (End(2, "error: a\nerror: b"), {}, "wrong"),  # not one line
    (End(2, "it failed"), {}, "wrong"),
    (KILLED, RIGHT, "wrong"),
    (KILLED, {}, "wrong"),
    (DONE, RIGHT, "same"),
    (End(0, "run/checkpoints/8: damaged, using 6"), {"out/page.html": "b"}, "said"),
    (End(0, "something is damaged"), {"out/page.html": "b"}, "wrong"),
    (End(0, "run: something is damaged"), {"out/page.html": "b"}, "wrong"),
    (End(0, "skipped the checkpoint of step 8: no"), {"out/page.html": "b"}, "said"),
    (End(0, "skipped the checkpoint of step 80: no"), {"out/page.html": "b"}, "wrong"),
    (DONE, {"out/page.html": "b"}, "wrong"),
  ],
)
def test_the_outcome_after_damage(end, results, outcome):
  arguments = (REPORT, EXPECTED, end, results, set(), "run/checkpoints/8/state/d/0f")
  assert fault_outcomes.after_damage(*arguments) == outcome


class Place:
  """A folder with one file, and a command that ends at once."""

  def __init__(self, path, end):
    (path / "read").write_bytes(b"content")
    self.path, self.end, self.expected = path, end, {"report": EXPECTED}
    self.seconds, self.quiet = {"report": 0.0}, {"report": 0.0}

  files = lambda self, patterns: [self.path / "read"]
  results = lambda self, case: RIGHT
  run = lambda self, case: self.end
  left = lambda self: set()
  is_written = lambda self: False
  start = lambda self, case: self
  is_alive = send = lambda self, number=0: False
  finish = lambda self, seconds: self.end
  phase = WORKS


@pytest.mark.parametrize(
  ("end", "hit"),
  [(DONE, False), (End(0, "read: damaged, made again"), True), (MISSING, True)],
)
def test_damage_that_nothing_reads_is_no_hit(tmp_path, end, hit):
  trial = faults.corrupt(Place(tmp_path, end), "report", random.Random(0))
  assert trial.hit == hit
  assert (tmp_path / "read").read_bytes() != b"content"


@pytest.mark.parametrize(("end", "hit"), [(DONE, False), (HELD, True)])
def test_two_commands_one_after_the_other_are_no_hit(tmp_path, end, hit):
  trial = faults.twice(Place(tmp_path, end), "report", random.Random(0))
  assert trial.hit == hit


def test_a_launcher_is_at_work_once_it_has_written(tmp_path):
  place = Place(tmp_path, DONE)
  assert not faults.works(place, CASES["launch"], place)
  assert faults.works(place, CASES["main"], place)


@pytest.mark.parametrize(
  ("number", "code", "outcome"),
  [
    (signal.SIGTERM, 143, ""),
    (signal.SIGTERM, -signal.SIGTERM, ""),
    (signal.SIGTERM, 130, "wrong"),
    (signal.SIGINT, 130, ""),
    (signal.SIGINT, 0, ""),  # it had done its work
    (signal.SIGINT, 1, "wrong"),
    (signal.SIGINT, -11, "wrong"),
    (signal.SIGINT, None, "hang"),
  ],
)
def test_a_signal_ends_a_command_with_the_promised_code(number, code, outcome):
  end = End(code, "interrupted")
  assert fault_outcomes.after_signal(REPORT, EXPECTED, end, number) == outcome


def test_a_traceback_after_a_signal_is_an_outcome():
  end = End(130, f"{TRACEBACK.output}\nKeyboardInterrupt")
  assert fault_outcomes.after_signal(REPORT, EXPECTED, end, signal.SIGINT) == (
    "traceback"
  )


@pytest.mark.parametrize(
  ("end", "results", "outcome"),
  [
    (DONE, RIGHT, "same"),
    (End(1, "error: out: cannot be written (File too large)"), {}, "refused"),
    (End(1, "error: out: no"), {"out/page.html": "b"}, "wrong"),
    (TRACEBACK, {}, "traceback"),
    (DONE, {}, "wrong"),
  ],
)
def test_the_outcome_on_a_full_disk(end, results, outcome):
  assert fault_outcomes.on_full_disk(REPORT, EXPECTED, end, results, set()) == outcome


@pytest.mark.parametrize(
  ("case", "ends", "at_work", "results", "outcome"),
  [
    (REPORT, (DONE, HELD), True, RIGHT, "same"),
    (REPORT, (DONE, DONE), False, RIGHT, "same"),  # one after the other
    (REPORT, (DONE, DONE), True, RIGHT, "wrong"),  # no lock
    (EXPORT, (DONE, DONE), False, RIGHT, "wrong"),  # the second had to find the output
    (EXPORT, (DONE, EXISTS), False, RIGHT, "same"),
    (REPORT, (DONE, MISSING), True, RIGHT, "wrong"),  # refused, for another reason
    (REPORT, (DONE, HELD), True, {"out/page.html": "mixed"}, "wrong"),
    (REPORT, (HELD, HELD), True, {}, "stuck"),
    (REPORT, (DONE, TRACEBACK), True, RIGHT, "traceback"),
    (REPORT, (DONE, KILLED), True, RIGHT, "wrong"),
  ],
)
def test_one_of_two_at_once_is_refused(case, ends, at_work, results, outcome):
  arguments = (case, EXPECTED, ends, results, set(), at_work)
  assert fault_outcomes.together(*arguments) == outcome


@pytest.mark.parametrize(
  ("ends", "results", "outcome"),
  [
    ((DONE, MISSING), {"a": "1"}, "same"),
    ((MISSING, DONE), {"b": "1"}, "same"),
    ((DONE, DONE), {"a": "1", "b": "1"}, "same"),
    ((DONE, DONE), {"a": "1"}, "wrong"),
    ((DONE, MISSING), {"a": "1", "b": "1"}, "wrong"),
    ((MISSING, MISSING), {}, "stuck"),
    ((DONE, TRACEBACK), {"a": "1"}, "traceback"),
  ],
)
def test_two_commands_at_once_leave_what_one_after_the_other_does(
  ends, results, outcome
):
  allowed = {
    "first": [{"a": "1"}],
    "second": [{"b": "1"}],
    "both": [{"a": "1", "b": "1"}],
  }
  arguments = ((REPORT, REPORT), (0, 0), ends, results, set(), allowed)
  assert fault_outcomes.of_pair(*arguments) == outcome


def test_missing_lines_of_metrics_are_other_results(tmp_path):
  file = tmp_path / "metrics.jsonl"

  def written(*rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return fault_results.results(tmp_path, [file])

  rows = [{"step": step, "loss": 0.5, "step_seconds": step} for step in range(3)]
  expected = written(*rows)
  assert written(*({**row, "step_seconds": 7} for row in rows)) == expected
  assert written(*rows[:2]) != expected
  assert written(*rows[:2], {"step": 2, "loss": 0.25}) != expected
  file.write_text(file.read_text()[:-9])  # a line that was cut off
  assert fault_results.results(tmp_path, [file]) != expected


def test_scalars_are_those_that_tensorboard_shows(tmp_path):
  from ssljax.training.metrics import Writer

  writer = Writer(tmp_path, 0, True)
  for step in (1, 2, 3):
    writer.write(step, "train", {"loss": 9.0, "step_seconds": time.time()})
  writer.close()
  writer = Writer(tmp_path, 1, True)  # after a kill
  writer.write(2, "train", {"loss": 0.5})
  writer.close()
  boards = list((tmp_path / "tensorboard").iterdir())
  assert fault_results.scalars(boards) == [
    (1, "train/loss", 9.0),
    (2, "train/loss", 0.5),
  ]


def test_a_second_call_makes_only_what_is_missing(tmp_path, monkeypatch, capsys):
  made = []

  def run(missing, rows, file):
    made.append(missing)
    for key in missing:
      row = dict(zip(("seed", "case", "fault", "trial"), key, strict=True))
      rows[key] = {**row, "outcome": "same", "hit": True, "output": ""}
      with open(file, "a") as lines:
        lines.write(json.dumps(rows[key]) + "\n")

  monkeypatch.setattr(faults, "run", run)
  file = tmp_path / "trials.jsonl"
  command = ["faults", "--only=main,report", "--faults=kill", f"--output={file}"]

  def call(*more):
    monkeypatch.setattr("sys.argv", [*command, *more])
    return faults.main()

  assert call("--trials=1") == 0
  with open(file, "a") as lines:
    lines.write('{"seed": 0, "case"')  # killed while it wrote
  assert call("--trials=2") == 0
  names = [[(case, trial) for _, case, _, trial in keys] for keys in made]
  assert names == [[("main", 0), ("report", 0)], [("main", 1), ("report", 1)]]
  assert "| all | all | 4 | 4 | 4 | 0 |" in capsys.readouterr().out


def test_bad_trials_are_printed_and_the_table_has_a_sum(monkeypatch, capsys, tmp_path):
  file = tmp_path / "trials.jsonl"
  row = {"seed": 0, "case": "report", "fault": "kill", "hit": False, "output": "why"}
  rows = [{**row, "trial": i, "outcome": o} for i, o in enumerate(("same", "stuck"))]
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  arguments = ["--only=report", "--faults=kill", "--trials=2", f"--output={file}"]
  monkeypatch.setattr("sys.argv", ["faults", *arguments])
  assert faults.main() == 1
  printed = capsys.readouterr().out
  assert "| report | kill | 2 | 0 | 1 | 0 | 0 | 0 | 1 | 0 | 0 | 0 |" in printed
  assert "stuck: report, kill, trial 1: why" in printed


def test_each_command_has_every_fault_that_concerns_it():
  for name, case in CASES.items():
    assert set(case.faults) <= set(faults.FAULTS), name
    assert not case.other or case.other in CASES

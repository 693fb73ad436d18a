"""Progress: what is shown with and without a terminal, and the remaining time."""

import io
import re
import sys

import pytest
from tqdm import tqdm

from ssljax.runtime import progress
from ssljax.runtime.progress import Progress


@pytest.fixture
def clock(monkeypatch):
  """A clock that a test moves."""
  now = [1000.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  monkeypatch.setattr("tqdm.std.time", lambda: now[0])
  return now


def test_without_a_terminal_a_line_is_printed_every_30_seconds(clock, capsys):
  shown = Progress(300, "step", initial=100)
  for step in range(20):
    shown.update(1, {"loss": 0.41} if step else {})
    clock[0] += 2
  shown.note("saved")
  shown.close()
  out, err = capsys.readouterr()
  assert out == ""
  # 15 steps of 2 s later: 184 steps are left. The time of the first step is left out.
  assert err.splitlines() == [
    "step 101/300, ETA ?",
    "step 116/300, loss 0.41, ETA 06:08",
    "saved",
  ]


def test_the_last_unit_always_has_a_line(clock, capsys):
  shown = Progress(3, "step")
  for _ in range(3):
    shown.update(1, {"loss": 1.0})
  assert capsys.readouterr().err.splitlines()[-1].startswith("step 3/3, loss 1")


def test_another_bar_of_tqdm_does_not_change_the_lines(clock, capsys):
  with tqdm(total=2, file=io.StringIO()):
    shown = Progress(2, "step")
    for _ in range(2):
      shown.update(1)
      clock[0] += 31
    shown.close()
  assert capsys.readouterr().err.splitlines() == [
    "step 1/2, ETA ?",
    "step 2/2, ETA 00:00",
  ]


def test_finished_work_has_no_remaining_time(capsys):
  Progress(3, "row", label="scoring").update(3)
  assert capsys.readouterr().err.splitlines() == ["scoring row 3/3"]


def test_without_a_total_the_remaining_time_is_unknown(clock, capsys):
  shown = Progress(None, "row", label="scoring")
  for _ in range(3):
    shown.update(1)
    clock[0] += 30
  lines = ["scoring row 1/?", "scoring row 2/?", "scoring row 3/?"]
  assert capsys.readouterr().err.splitlines() == lines


def test_units_from_a_cache_do_not_count_toward_the_rate(clock, capsys):
  shown = Progress(1000, "answer", settle=30)
  for _ in range(500):  # from the cache
    clock[0] += 0.001
    shown.update(1)
  for _ in range(100):  # from the engine
    clock[0] += 10
    shown.update(1)
  lines = capsys.readouterr().err.splitlines()
  assert lines[0] == "answer 503/1000, ETA ?"
  assert lines[1] == "answer 506/1000, ETA 1:22:19"
  assert lines[-1] == "answer 599/1000, ETA 1:06:49"


def test_units_can_be_added_to_the_total(clock, capsys):
  shown = Progress(10, "answer", settle=30)
  for count, added in [(1, 0)] * 10 + [(0, 6)] + [(1, 0)] * 6:
    clock[0] += 10 * count
    shown.update(count, {"requests": 3}, added)
  lines = capsys.readouterr().err.splitlines()
  assert lines[1] == "answer 6/10, requests 3, ETA 00:39"  # tqdm rounds down
  assert lines[-1] == "answer 16/16, requests 3, ETA 00:00"


def test_the_rate_is_computed_over_the_last_minutes(clock, capsys):
  shown = Progress(2000, "answer", settle=30)
  for seconds in [1] * 900 + [2] * 400:
    clock[0] += seconds
    shown.update(1)
  # 710 answers are left. The last 390 took 2 s each, and the mean is 1.3 s.
  minutes = re.search(r"answer 1290/2000, ETA (\d+):", capsys.readouterr().err)[1]
  assert int(minutes) in range(22, 24)


@pytest.mark.parametrize(
  ("value", "text"),
  [
    (1_234_567, "1234567"),
    (1_234_567.0, "1234567"),
    (0, "0"),
    (1.0, "1"),
    (0.123456, "0.1235"),
    (12345.6, "1.235e+04"),
    (3e-5, "3e-05"),
    (1e30, "1e+30"),
    (123_456_789_012_345, "123456789012345"),
    (float("nan"), "nan"),
    (float("inf"), "inf"),
  ],
)
def test_whole_numbers_have_all_their_digits(clock, capsys, value, text):
  shown = Progress(1, "answer")
  shown.update(1, {"tokens": value})
  assert capsys.readouterr().err == f"answer 1/1, tokens {text}\n"


def test_an_inactive_display_prints_nothing(capsys):
  shown = Progress(1, "step", active=False)
  shown.update(1, {"loss": 1.0})
  shown.note("hello")
  shown.close()
  assert capsys.readouterr() == ("", "")


def test_on_a_terminal_notes_do_not_break_the_bar(monkeypatch):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  terminal = Terminal()
  monkeypatch.setattr(sys, "stderr", terminal)
  with Progress(10, "step", initial=4) as shown:
    shown.update(1, {"loss": 0.123456})
    shown.note("resumed at step 4")
    shown.update(5)
  text = terminal.getvalue()
  assert re.search(r"(^|[\r\n ])resumed at step 4\n", text)
  assert "4/10" in text
  assert re.search(r"10/10 .*loss 0\.1235", text)

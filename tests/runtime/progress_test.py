"""The console while views are made: answers, of how many, and for how much longer."""

import pytest

from ssljax.runtime import progress
from ssljax.runtime.progress import Progress


@pytest.fixture
def clock(monkeypatch):
  """A clock that a test moves."""
  now = [1000.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  return now


def test_answers_of_a_cache_are_no_measure_of_speed(clock, capsys):
  shown = Progress(1000)
  for _ in range(500):  # from the cache, in no time
    clock[0] += 0.001
    shown(1)
  for _ in range(100):  # of the engine
    clock[0] += 10
    shown(1)
  shown.close()
  said = capsys.readouterr().err.splitlines()
  assert said[0] == "503/1000 answers, ETA ?"
  assert said[1] == "506/1000 answers, ETA 1:22:20"
  assert said[-1] == "599/1000 answers, ETA 1:06:50"


def test_texts_that_are_asked_again_are_awaited(clock, capsys):
  shown = Progress(10, lambda: {"requests": 3})
  for answers, more in [(1, 0)] * 10 + [(0, 6)] + [(1, 0)] * 6:
    clock[0] += 10 * answers
    shown(answers, more)
  shown.close()
  said = capsys.readouterr().err.splitlines()
  assert said[1] == "6/10 answers, ETA 00:40 requests 3"
  assert said[-1] == "15/16 answers, ETA 00:10 requests 3"


def test_the_speed_is_that_of_the_last_minutes(clock, capsys):
  shown = Progress(2000)
  for seconds in [1] * 900 + [2] * 400:
    clock[0] += seconds
    shown(1)
  shown.close()
  said = capsys.readouterr().err.splitlines()
  assert said[-1] == "1290/2000 answers, ETA 23:40"  # 710 at 2 s

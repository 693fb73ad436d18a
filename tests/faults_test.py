"""The outcomes that `benchmarks.faults` counts."""

import collections
import types

import pytest

from benchmarks import faults


def place(results, left=()):
  """A place where the command `report` has left these results."""
  return types.SimpleNamespace(
    expected={"report": (0, {"out/report.html": "a"})},
    results=lambda case: results,
    left=lambda: set(left),
  )


@pytest.mark.parametrize(
  ("results", "code", "output", "outcome"),
  [
    ("a", 0, "", "same"),
    ("a", 2, "error: it exists", "same"),  # it had finished before it was killed
    (None, 2, "error: test.parquet: cannot be read", "refused"),
    ("b", 0, "skipped 12: damaged", "said"),
    ("b", 0, "", "wrong"),
    (None, 0, "", "wrong"),
    (None, -11, "", "wrong"),
    (None, 1, "Traceback (most recent call last):", "traceback"),
    (None, None, "", "hang"),
  ],
)
def test_the_outcome_of_a_command(results, code, output, outcome):
  written = {"out/report.html": results} if results else {}
  assert faults.judge(place(written), "report", code, output) == outcome


def test_temporary_files_that_are_left_are_an_outcome():
  written = {"out/report.html": "a"}
  assert faults.judge(place(written, [".report.1"]), "report", 0, "") == "left"


def test_the_table_counts_outcomes_and_has_a_sum():
  counts = {
    ("main", "kill"): collections.Counter(same=3),
    ("main", "disk"): collections.Counter(same=1, refused=1),
  }
  lines = faults.table(counts).splitlines()
  assert lines[2] == "| main | kill | 3 | 3 | 0 | 0 | 0 | 0 | 0 | 0 |"
  assert lines[-1] == "| all | all | 5 | 4 | 1 | 0 | 0 | 0 | 0 | 0 |"

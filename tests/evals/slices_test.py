"""Parts of a test set: who is in them, their rates, and which comes first."""

import numpy as np
import pytest
from scipy import stats

from ssljax.data.records import records
from ssljax.evals import slices


def test_rates_are_counts_with_wilsons_interval():
  harmful = np.array([True] * 12 + [False] * 20)
  flagged = harmful.copy()
  flagged[:3] = False  # missed
  flagged[-5:] = True  # false alarms
  columns = {"kind": ["a"] * 12 + ["b"] * 20}
  first, second = slices.slices(columns, flagged != harmful, harmful)
  a, b = sorted((first, second), key=lambda part: part["value"])
  assert (a["count"], a["harmful"]) == (12, 12)
  assert (a["error_rate"], a["miss_rate"]) == (3 / 12, 3 / 12)
  assert a["false_alarm_rate"] is a["false_alarm_rate_interval"] is None
  assert (b["error_rate"], b["false_alarm_rate"], b["miss_rate"]) == (0.25, 0.25, None)
  wanted = stats.binomtest(3, 12).proportion_ci(0.95, method="wilson")
  assert a["error_rate_interval"] == pytest.approx([wanted.low, wanted.high])
  # As bad as the other, on more texts: the low end is higher.
  assert first["value"] == "b"


def test_a_text_may_have_several_values_or_none():
  values = ["x; y", "y", None, ""] * 10
  found = slices.slices({"c": values}, np.zeros(40, bool), np.zeros(40, bool))
  assert {part["value"]: part["count"] for part in found} == {
    "x": 10,
    "y": 20,
    slices.MISSING: 20,
  }


def test_what_is_no_part_is_left_out():
  n = 200
  columns = {
    "one": ["same"] * n,
    "ids": [str(i) for i in range(n)],
    "rare": ["few"] * 9 + ["many"] * (n - 9),
  }
  found = slices.slices(columns, np.zeros(n, bool), np.zeros(n, bool))
  assert [(part["column"], part["value"]) for part in found] == [("rare", "many")]
  assert slices.unfit(columns["one"]) == "has one value only (same)"
  assert slices.unfit(columns["ids"]) == "has 200 values; up to 50 are told apart"
  assert slices.unfit(columns["rare"]) == ""
  assert slices.unfit(["a", "b"]) == "has no value with 10 texts"


def test_with_more_than_two_classes_there_are_errors_only():
  wrong = np.array([True] * 5 + [False] * 25)
  a, b = slices.slices({"kind": ["a"] * 10 + ["b"] * 20}, wrong, None)
  assert (a["value"], a["error_rate"], b["error_rate"]) == ("a", 0.5, 0.0)
  for name in ("harmful", "miss_rate", "false_alarm_rate", "false_alarm_rate_interval"):
    assert a[name] is None


def test_columns_of_records_and_classes_of_length():
  rows = records.from_rows(
    [
      {
        "id": f"{n} {more}",
        "text": "w " * n,
        "response": "w " * more or None,
        "source": "s",
      }
      for n, more in ((1, 0), (7, 0), (8, 0), (31, 0), (1, 31), (500, 12), (900, 0))
    ]
  )
  found = slices.columns(rows, {"mine": list(range(7))})
  assert found["words"] == [
    *("0 to 7", "0 to 7", "8 to 31", "8 to 31"),
    *("32 to 127", "512 or more", "512 or more"),
  ]
  assert list(found) == ["category", "source", "words", "mine"]


def test_false_and_zero_are_values_and_not_missing():
  values = [True, False, None, 0] * 20
  flagged = np.zeros(80, bool)
  found = slices.slices({"turn": values}, flagged, flagged)
  assert {one["value"]: one["count"] for one in found} == {
    "True": 20,
    "False": 20,
    "(none)": 20,
    "0": 20,
  }

"""Slices of a test set: their texts, their rates and their order."""

import numpy as np
import pytest
from scipy import stats

from ssljax.data.records import records
from ssljax.evals import slices
from ssljax.evals.slices import skip_reason, slice_metrics


def test_rates_are_counts_with_wilsons_interval():
  harmful = np.array([True] * 12 + [False] * 20)
  flagged = harmful.copy()
  flagged[:3] = False  # missed
  flagged[-5:] = True  # false alarms
  columns = {"kind": ["a"] * 12 + ["b"] * 20}
  first, second = slice_metrics(columns, flagged != harmful, harmful)
  a, b = sorted((first, second), key=lambda metrics: metrics["value"])
  assert (a["count"], a["harmful"]) == (12, 12)
  assert (a["error_rate"], a["miss_rate"]) == (3 / 12, 3 / 12)
  assert a["false_alarm_rate"] is a["false_alarm_rate_interval"] is None
  assert (b["error_rate"], b["false_alarm_rate"], b["miss_rate"]) == (0.25, 0.25, None)
  wilson = stats.binomtest(3, 12).proportion_ci(0.95, method="wilson")
  assert a["error_rate_interval"] == pytest.approx([wilson.low, wilson.high])
  # Both have the same error rate, but b has more texts, so its lower end is higher.
  assert first["value"] == "b"


def count_values(values):
  right = np.zeros(len(values), bool)
  return {m["value"]: m["count"] for m in slice_metrics({"c": values}, right, right)}


def test_a_text_may_have_several_values_or_none():
  expected = {"x": 10, "y": 20, slices.MISSING: 20}
  assert count_values(["x; y", "y", None, ""] * 10) == expected


def test_false_and_zero_are_not_missing_values():
  expected = {"True": 20, "False": 20, slices.MISSING: 20, "0": 20}
  assert count_values([True, False, None, 0] * 20) == expected


def test_unsuitable_columns_are_skipped_with_a_reason():
  n = 200
  columns = {
    "constant": ["same"] * n,
    "ids": [str(i) for i in range(n)],
    "rare": ["few"] * 9 + ["many"] * (n - 9),
  }
  metrics = slice_metrics(columns, np.zeros(n, bool), np.zeros(n, bool))
  assert [(m["column"], m["value"]) for m in metrics] == [("rare", "many")]
  assert skip_reason(columns["constant"]) == "has only one value (same)"
  assert skip_reason(columns["ids"]) == "has 200 values, more than 50"
  assert skip_reason(columns["rare"]) == ""
  assert skip_reason(["a", "b"]) == "has no value with at least 10 texts"


def test_more_than_two_classes_have_error_rates_only():
  wrong = np.array([True] * 5 + [False] * 25)
  a, b = slice_metrics({"kind": ["a"] * 10 + ["b"] * 20}, wrong, None)
  assert (a["value"], a["error_rate"], b["error_rate"]) == ("a", 0.5, 0.0)
  for name in ("harmful", "miss_rate", "false_alarm_rate", "false_alarm_rate_interval"):
    assert a[name] is None


def test_records_are_sliced_by_category_source_and_length():
  words = ((1, 0), (7, 0), (8, 0), (31, 0), (1, 31), (500, 12), (900, 0))
  rows = records.from_rows(
    [
      {
        "id": f"{prompt} {response}",
        "text": "w " * prompt,
        "response": "w " * response or None,
        "source": "s",
      }
      for prompt, response in words
    ]
  )
  columns = slices.slice_columns(rows, {"extra": list(range(7))})
  assert columns["words"] == [
    *("0 to 7", "0 to 7", "8 to 31", "8 to 31"),
    *("32 to 127", "512 or more", "512 or more"),
  ]
  assert list(columns) == ["category", "source", "words", "extra"]

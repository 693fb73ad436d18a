"""The names of classes that --labels makes of several values."""

import json
from pathlib import Path

import pytest

from ssljax.data.records.read import read_splits
from ssljax.data.sources import build
from ssljax.errors import UserError
from tests.data.sources.own_names_test import write_parquet, write_rows

NAMES = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")


@pytest.mark.parametrize(
  ("row", "declared", "first", "names", "renamed"),
  [
    ((), NAMES, 0, ("1 star", "4 stars"), "'2 stars' to '1 star'"),
    ((), "12345", 1, ("1", "4"), ""),
    (("label", "name"), (), 0, ("1 star", "4 stars"), "'2 stars' to '1 star'"),
    (("label", "name"), (), 1, ("1 star", "4 stars"), "'5 stars' to '4 stars'"),
    (("text number",), (), 1, ("1", "4"), ""),
    (("label",), (), 1, ("1", "4"), ""),
  ],
)
def test_classes_merged_by_number(tmp_path, row, declared, first, names, renamed):
  """They get the names that they'd get if they were merged by name."""
  columns = {}
  if declared:
    label = [i % 5 for i in range(60)]
    source = write_parquet(tmp_path / "rows.parquet", declared, label=label)
  else:
    rows = [{"text": f"text {i}"} for i in range(60)]
    for i, line in enumerate(rows):
      if "label" in row:
        line["label"] = i % 5 + first
      if "name" in row:
        line["label_name"] = NAMES[i % 5]
      if "text number" in row:
        columns = {"label": "label_name"}
        line["label_name"] = str(i % 5 + first)
    source = str(tmp_path / "rows.jsonl")
    Path(source).write_text("".join(json.dumps(line) + "\n" for line in rows))
  classes = ("0", "0", "null", "1", "1")
  labels = [f"{number}:{id_}" for number, id_ in enumerate(classes, first)]
  about = build.build_from_files(source, tmp_path / "out", columns, labels)
  assert renamed in str(about["notes"])
  assert ("renames" in str(about["notes"])) == bool(renamed)
  splits = read_splits(tmp_path / "out")
  assert splits.labels == names == tuple(about["labels"])
  for part in splits[:3]:
    for text, label in zip(part.column("text"), part.label, strict=True):
      assert str(label).replace("-1", "null") == classes[int(text.split()[1]) % 5]


def test_a_merged_class_has_one_of_its_names(tmp_path):
  names = ("ok", "hate", "abuse")
  rows = ({"text": f"text {i}", "label": i % 3} for i in range(60))
  rows = [{**row, "label_name": names[row["label"]]} for row in rows]
  source = tmp_path / "rows.jsonl"
  source.write_text("".join(json.dumps(row) + "\n" for row in rows))
  labels = ("0:0", "1:1", "2:1")
  about = build.build_from_files(str(source), tmp_path / "out", {}, labels)
  assert read_splits(tmp_path / "out").labels == ("ok", "hate")
  assert "--labels renames 'abuse' to 'hate'" in about["notes"]


def test_a_merged_class_whose_first_value_has_no_name(tmp_path):
  names = (None, "abuse", "hate")
  rows = [
    {"text": f"text {i}", "label": i % 3, "label_name": names[i % 3]} for i in range(60)
  ]
  source = write_rows(tmp_path / "rows.jsonl", rows)
  about = build.build_from_files(source, tmp_path / "out", {}, ("0:0", "1:0", "2:1"))
  assert about["labels"] == ["0", "hate"]
  assert "--labels renames 'abuse' to '0'" in about["notes"]
  # A value that doesn't occur is no class's first.
  labels = ("9:0", "0:0", "8:1", "1:1", "2:1")
  about = build.build_from_files(source, tmp_path / "more", {}, labels)
  assert about["labels"] == ["9", "abuse"]


@pytest.mark.parametrize("order", [("safe", "harmful"), ("harmful", "safe")])
def test_opposite_names_are_not_merged(tmp_path, order):
  rows = [
    {"text": f"text {i}", "label": i % 3, "label_name": (*order, "mixed")[i % 3]}
    for i in range(60)
  ]
  source = tmp_path / "rows.jsonl"
  source.write_text("".join(json.dumps(row) + "\n" for row in rows))
  for labels in (("0:0", "1:0", "2:1"), ("1:0", "0:0", "2:1")):
    with pytest.raises(UserError, match="line 2: the row's class is 0 and its name"):
      build.build_from_files(str(source), tmp_path / "no", {}, labels)

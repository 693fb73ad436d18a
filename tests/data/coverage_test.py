"""What `evaluate` says about the rows that it scores, and those that it doesn't."""

import json

from ssljax.data import coverage
from tests.data.csv_source import make, write_csv


def test_all_rows_of_a_file(tmp_path):
  path = write_csv(tmp_path / "new.csv")
  assert coverage.describe(path, 60, "elsewhere") == ("all 60 rows", [])


def test_a_file_that_the_run_was_trained_on(tmp_path):
  path = write_csv(tmp_path / "mine.csv")
  make(path, tmp_path / "out")
  for trained_on in (path, tmp_path / "out"):
    text, [warning] = coverage.describe(path, 60, str(trained_on))
    assert text == "all 60 rows"
    assert "the run was trained on rows of" in warning
  held = write_csv(tmp_path / "held.csv", 30, first=100)
  make(f"{path},{held}", tmp_path / "two", as_=["train", "test"])
  assert coverage.describe(held, 30, str(tmp_path / "two"))[1] == []


def test_a_folder_that_prepare_has_divided(tmp_path):
  make(write_csv(tmp_path / "held.csv"), tmp_path / "out")
  out = tmp_path / "out"
  text, [warning] = coverage.describe(out, 15, "elsewhere")
  expected = "15 of 60 rows: the test split, without 30 of train and 15 of validation"
  assert text == expected
  assert "prepare it again with --as=test" in warning
  # The run's own data is divided on purpose.
  assert coverage.describe(out, 15, str(out)) == (expected, [])
  about = json.loads((out / "dataset.json").read_text())
  del about["shares"]  # version 0.1.0 wrote none
  about["notes"] = ["validation (10.0%) and test (20.0%) taken from train with seed 0"]
  (out / "dataset.json").write_text(json.dumps(about))
  assert len(coverage.describe(out, 15, "elsewhere")[1]) == 1


def test_a_folder_with_splits_of_its_source(tmp_path):
  train = write_csv(tmp_path / "train.csv")
  test = write_csv(tmp_path / "test.csv", 30, first=100)
  make(f"{train},{test}", tmp_path / "out")
  text, warnings = coverage.describe(tmp_path / "out", 30, "elsewhere")
  assert text.startswith("30 of 90 rows: the test split, without 45 of train")
  assert warnings == []
  make(test, tmp_path / "held", as_="test")
  assert coverage.describe(tmp_path / "held", 30, "x") == ("all 30 rows", [])

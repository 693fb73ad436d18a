"""How many of a user's labels become validation and test, and how to change it."""

import json

import numpy as np
import pytest

from ssljax.data import prepare
from ssljax.data.records.read import read_labelled, read_splits
from ssljax.data.sources import division
from ssljax.errors import UserError
from tests.data.csv_source import make, write_csv


def write_labelled(path, *counts, unlabelled=0, first=0):
  labels = [label for label, n in enumerate(counts) for _ in range(n)]
  rows = [*labels, *[None] * unlabelled]
  lines = [
    json.dumps({"text": f"text {i}", "label": label})
    for i, label in enumerate(rows, first)
  ]
  path.write_text("\n".join(lines))
  return str(path)


def count_labels(folder):
  splits = read_splits(folder)
  return {
    name: np.bincount(rows.label[rows.label >= 0]).tolist()
    for name, rows in zip(("train", "validation", "test"), splits[:3], strict=True)
  }


@pytest.mark.parametrize(
  ("counts", "expected"),
  [
    ((100, 100), ([60, 60], [20, 20], [20, 20])),
    ((180, 20), ([90, 10], [45, 5], [45, 5])),
    ((50, 50), ([26, 26], [12, 12], [12, 12])),
    ((300, 300), ([210, 210], [30, 30], [60, 60])),
    ((900, 200), ([630, 140], [90, 20], [180, 40])),
  ],
)
def test_few_labels_of_one_file(tmp_path, counts, expected):
  source = write_labelled(tmp_path / "mine.jsonl", *counts, unlabelled=500)
  about = prepare.prepare(source, str(tmp_path / "out"))
  assert tuple(count_labels(tmp_path / "out").values()) == expected
  assert about["rows"]["train"]["unlabelled"] == 500
  assert set(about["shares"]) == {"validation", "test"}


def test_train_keeps_half_and_every_split_has_the_classes_in_proportion():
  rng = np.random.default_rng(0)
  for _ in range(200):
    sizes = rng.integers(1, rng.choice([10, 100, 3000]), rng.integers(2, 5))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    shares = division.choose_shares(np.append(labels, [-1] * 7))
    assert shares["train"] >= 0.5
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["validation"] >= 0.1
    assert shares["test"] >= 0.2
    rarest = sizes.min()
    if rarest >= 80:
      assert shares["validation"] * rarest >= 20 - 1e-9
      assert shares["test"] * rarest >= 20 - 1e-9
    if rarest >= 200:
      assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2})


def test_shares(tmp_path):
  source = write_labelled(tmp_path / "mine.jsonl", 100, 100, unlabelled=50)
  shares = ["0.8", "0.05", "0.15"]
  about = prepare.prepare(source, str(tmp_path / "out"), shares=shares)
  assert tuple(count_labels(tmp_path / "out").values()) == (
    ([80, 80], [5, 5], [15, 15])
  )
  assert about["shares"] == {"validation": 0.05, "test": 0.15}
  lines = prepare.list_rows(about["rows"])
  assert lines[-1] == "200 labelled rows: 160 for train, 10 for validation, 30 for test"
  assert lines[0].split() == ["rows", "train", "validation", "test"]
  assert lines[3].split() == ["unlabelled", "50", "0", "0"]
  assert lines[4].split() == ["all", "210", "10", "30"]
  (budget,) = prepare.describe_budget(about["rows"]["train"])
  assert "train on all 160 labels with --config.labels=0" in budget
  counts = {"a": 100, "b": 100, "unlabelled": 50, "all": 250}
  assert prepare.describe_budget(counts) == []  # the default fits
  counts = {"a": 10, "b": 20, "unlabelled": 0, "all": 30}
  assert prepare.describe_budget(counts) == []  # nothing would be unlabelled


@pytest.mark.parametrize(
  ("shares", "words"),
  [
    (["0.6", "0.2"], "as three numbers above 0"),
    (["0.6", "0.2", "x"], "as three numbers above 0"),
    (["0.8", "0.2", "0"], "as three numbers above 0"),
    (["nan", "0.2", "0.2"], "as three numbers above 0"),
    (["0.6", "0.2", "0.1"], "the sum is 0.9; it must be 1"),
  ],
)
def test_invalid_shares(tmp_path, shares, words):
  source = write_labelled(tmp_path / "mine.jsonl", 40, 40)
  with pytest.raises(UserError, match=f"--shares={','.join(shares)}: .*{words}"):
    prepare.prepare(source, str(tmp_path / "out"), shares=shares)
  assert not (tmp_path / "out").exists()


def test_shares_are_for_a_source_without_splits(tmp_path):
  train = write_csv(tmp_path / "train.csv")
  test = write_csv(tmp_path / "test.csv", 30, first=100)
  shares = division.parse_shares(["0.6", "0.2", "0.2"])
  with pytest.raises(UserError, match=r"source without splits, but .* has train, test"):
    make(f"{train},{test}", tmp_path / "out", shares=shares)
  with pytest.raises(UserError, match="--shares and --add cannot be used"):
    prepare.prepare("pyrit", str(tmp_path / "out"), shares=["0.6", "0.2", "0.2"])


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_all_rows_of_a_file_become_one_split(tmp_path, name):
  source = write_csv(tmp_path / "train-val-test.csv")  # whatever its name
  about = make(source, tmp_path / "out", as_=[name])
  assert {split: rows["all"] for split, rows in about["rows"].items()} == {name: 60}
  assert any(f"only a {name} split" in note for note in about["notes"]) or any(
    "no validation and no test split" in note for note in about["notes"]
  )
  if name == "test":
    assert len(read_labelled(tmp_path / "out")) == 60


def test_a_split_for_each_file(tmp_path):
  mine = write_labelled(tmp_path / "mine.jsonl", 100, 100)
  pool = write_labelled(tmp_path / "pool.jsonl", unlabelled=300, first=1000)
  held = write_labelled(tmp_path / "held.jsonl", 30, 20, first=2000)
  more = write_labelled(tmp_path / "more.jsonl", 10, 15, first=3000)
  source = ",".join((mine, pool, held, more))
  as_ = ["train", "train", "test", "validation"]
  about = prepare.prepare(source, str(tmp_path / "all"), as_=as_)
  assert count_labels(tmp_path / "all") == {
    "train": [100, 100],
    "validation": [10, 15],
    "test": [30, 20],
  }
  assert about["rows"]["train"]["unlabelled"] == 300
  prepare.prepare(
    f"{mine},{pool},{held}", str(tmp_path / "three"), as_=["train", "train", "test"]
  )
  assert count_labels(tmp_path / "three") == {
    "train": [80, 80],
    "validation": [20, 20],
    "test": [30, 20],
  }
  # Without a test file, the labels are divided like those of one file.
  shares = ["0.5", "0.25", "0.25"]
  pair = f"{mine},{pool}"
  prepare.prepare(pair, str(tmp_path / "two"), as_=["train"], shares=shares)
  assert count_labels(tmp_path / "two") == {
    "train": [50, 50],
    "validation": [25, 25],
    "test": [25, 25],
  }
  assert len(read_splits(tmp_path / "two").train) == 400


@pytest.mark.parametrize(
  ("as_", "words"),
  [
    (["dev"], "unknown split 'dev'; use train, validation, test"),
    (["train", "test"], "give one split, or one for each of the 1 files"),
  ],
)
def test_invalid_splits_of_files(tmp_path, as_, words):
  with pytest.raises(UserError, match=f"--as={','.join(as_)}: {words}"):
    make(write_csv(tmp_path / "mine.csv"), tmp_path / "out", as_=as_)


def test_chosen_texts_do_not_change_validation_and_test(tmp_path):
  rows = [{"id": f"r{i}", "text": f"text {i}", "label": i % 2} for i in range(80)]
  pool = [{"id": f"u{i}", "text": f"more {i}", "label": None} for i in range(120)]
  ids = []
  for name in ("before", "after"):
    if name == "after":
      pool = [{**row, "label": i % 2, "source": "select"} for i, row in enumerate(pool)]
    path = tmp_path / f"{name}.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows + pool))
    prepare.prepare(str(path), str(tmp_path / name))
    parts = read_splits(tmp_path / name)
    ids.append([parts.validation.column("id"), parts.test.column("id")])
  assert ids[0] == ids[1]


def test_too_few_labels_are_named(tmp_path):
  source = write_labelled(tmp_path / "mine.jsonl", 198, 2)
  about = prepare.prepare(source, str(tmp_path / "out"), labels=["fine", "rude"])
  for name in ("validation", "test"):
    start = f"warning: {name} has no text labelled 'rude'"
    assert any(note.startswith(start) for note in about["notes"])
  source = write_labelled(tmp_path / "few.jsonl", 3, 2)
  with pytest.raises(
    UserError, match=r"validation split has no rows.*too few labelled"
  ):
    prepare.prepare(source, str(tmp_path / "few"))
  source = write_labelled(tmp_path / "more.jsonl", 180, 20)
  about = prepare.prepare(source, str(tmp_path / "more"))
  assert not any(note.startswith("warning") for note in about["notes"])


def test_a_missing_label_column_is_named(tmp_path):
  path = tmp_path / "mine.csv"
  path.write_text("text,labels\n" + "".join(f"text {i},{i % 2}\n" for i in range(60)))
  with pytest.raises(
    UserError, match=r"no column 'label' \(the rows have text, labels"
  ):
    prepare.prepare(str(path), str(tmp_path / "out"))

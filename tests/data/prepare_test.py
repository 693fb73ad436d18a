"""`prepare` writes a complete dataset folder or nothing, and reports dropped rows."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.data import prepare
from ssljax.data.dedup import exact
from ssljax.data.records.read import read_labelled, read_splits
from ssljax.data.sources import build, hub, write
from ssljax.errors import UserError
from tests.data.csv_source import LABELS, make, write_csv


def texts(split):
  return set(split.column("text"))


def test_one_csv_with_three_classes(tmp_path):
  about = make(write_csv(tmp_path / "mine.csv"), tmp_path / "out")
  splits = read_splits(tmp_path / "out")
  assert splits.labels == LABELS
  assert splits.notes == ()
  assert [len(s) for s in splits[:3]] == [30, 15, 15]
  assert splits.train.column("category")[0] == "made"
  assert splits.train.column("source")[0] == "mine.csv-train"
  assert about == json.loads((tmp_path / "out" / "dataset.json").read_text())
  assert about["labels"] == list(LABELS)
  assert about["rows"]["test"] == {"all": 15, "fine": 5, "rude": 5, "spam": 5}
  assert about["columns"] == {"text": "say", "label": "verdict", "category": "kind"}
  assert "seed 0" in about["notes"][0]
  assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.csv", "out"]


def test_the_seed_determines_the_splits(tmp_path):
  source = write_csv(tmp_path / "mine.csv")
  for name, seed in (("a", 0), ("b", 0), ("c", 1)):
    make(source, tmp_path / name, seed=seed)
  a, b, c = (read_splits(tmp_path / name) for name in "abc")
  assert a[:3] == b[:3]
  assert texts(a.test) != texts(c.test)


def test_existing_splits_are_kept(tmp_path):
  train = write_csv(tmp_path / "train.csv")
  test = write_csv(tmp_path / "test.csv", 30, first=100)
  make(f"{train},{test}", tmp_path / "out")
  splits = read_splits(tmp_path / "out")
  assert [len(s) for s in splits[:3]] == [45, 15, 30]
  write_csv(tmp_path / "dev.csv", 12, first=200)
  make(tmp_path, tmp_path / "all")
  splits = read_splits(tmp_path / "all")
  assert [len(s) for s in splits[:3]] == [60, 12, 30]
  (tmp_path / "test.csv").unlink()
  make(f"{train},{tmp_path / 'dev.csv'}", tmp_path / "two")
  splits = read_splits(tmp_path / "two")
  assert [len(s) for s in splits[:3]] == [45, 12, 15]


def test_a_single_test_file_gives_only_a_test_split(tmp_path):
  about = make(write_csv(tmp_path / "my-test.csv"), tmp_path / "out")
  assert list(about["rows"]) == ["test"]
  assert "evaluate" in about["notes"][0]


def test_a_held_out_file_stays_whole(tmp_path):
  source = write_csv(tmp_path / "held-out.csv")
  about = make(source, tmp_path / "divided")
  assert about["rows"]["test"]["all"] == 15
  assert about["notes"] == [
    "validation (25.0%) and test (25.0%) taken from the labelled rows of train with "
    "seed 0, keeping rows with the same text together; to change this, use "
    "--shares=TRAIN,VALIDATION,TEST, or --as=test for a file that is only for testing"
  ]
  about = make(source, tmp_path / "out", as_="test")
  assert {name: rows["all"] for name, rows in about["rows"].items()} == {"test": 60}
  assert about["files"] == {"test": [str(source)]}
  assert len(read_labelled(tmp_path / "out")) == 60
  more = write_csv(tmp_path / "train.csv", 30, first=100)
  about = make(f"{source},{more}", tmp_path / "two", as_="test")
  assert about["rows"]["test"]["all"] == 90
  with pytest.raises(UserError, match="the file is given twice"):
    make(f"{source},{source}", tmp_path / "none", as_="test")
  with pytest.raises(UserError, match="is a folder; give a file"):
    make(tmp_path, tmp_path / "none", as_="test")
  with pytest.raises(UserError, match="--splits=test=NAME"):
    make("made/up", tmp_path / "none", as_="test")


def test_what_was_read_is_said(tmp_path):
  folder = tmp_path / "repository" / "data"
  folder.mkdir(parents=True)
  first = write_csv(folder / "train-00000-of-00002.csv", 30)
  second = write_csv(folder / "train-00001-of-00002.csv", 30, first=30)
  write_csv(folder / "._train-00001-of-00002.csv", 3)
  write_csv(folder / "validated.csv", 3)
  about = make(folder.parent, tmp_path / "out")
  assert about["files"] == {"train": [str(first), str(second)]}
  assert about["notes"][1] == f"{folder.parent}: ignored files: data/validated.csv"
  assert sum(rows["all"] for rows in about["rows"].values()) == 60


def test_copies_across_splits_are_removed(tmp_path):
  train = write_csv(tmp_path / "train.csv", 60)
  dev = write_csv(tmp_path / "dev.csv", 12, first=50)  # 10 from train, 2 new
  test = write_csv(tmp_path / "test.csv", 12, first=60)  # 2 of validation, 10 new
  about = make(f"{train},{dev},{test}", tmp_path / "out")
  splits = read_splits(tmp_path / "out")
  assert not texts(splits.train) & (texts(splits.validation) | texts(splits.test))
  assert not texts(splits.validation) & texts(splits.test)
  assert [len(s) for s in splits[:3]] == [50, 10, 12]
  assert about["dropped"] == {write.VALIDATION_COPIES: 2, write.TRAIN_COPIES: 10}


def test_prepared_and_divided_splits_do_not_overlap(tmp_path):
  """prepare, the splitting of a single file, and training agree on what a copy is."""
  words = [["alike", "ALIKE ", "ａｌｉｋｅ"][i % 3] + f" {i // 3}" for i in range(90)]
  rows = [{"text": text, "label": i % 2} for i, text in enumerate(words)]
  lines = [json.dumps(row) + "\n" for row in rows]
  (tmp_path / "train.jsonl").write_text("".join(lines[::2]))
  (tmp_path / "test.jsonl").write_text("".join(lines[1::2]))
  source = f"{tmp_path / 'train.jsonl'},{tmp_path / 'test.jsonl'}"
  # Every text of train is also in test.
  with pytest.raises(UserError, match="train split has no rows"):
    build.build_from_files(source, tmp_path / "none", {})
  whole = tmp_path / "whole.jsonl"
  whole.write_text("".join(lines))
  build.build_from_files(str(whole), tmp_path / "out", {})
  for data in (tmp_path / "out", whole):
    splits = read_splits(str(data))
    against = exact.index_digests([splits.validation, splits.test])
    assert len(splits.train) > 30
    assert not exact.find_duplicates(splits.train, against)


def test_pairs_are_copies_only_with_equal_responses(tmp_path):
  rows = lambda replies: [
    {"text": f"ask {i}", "response": reply, "label": i % 2}
    for i in range(20)
    for reply in replies
  ]
  for name, replies in (("train", ["a", "b"]), ("test", ["b", "c"])):
    lines = "".join(json.dumps(row) + "\n" for row in rows(replies))
    (tmp_path / f"{name}.jsonl").write_text(lines)
  about = build.build_from_files(str(tmp_path), tmp_path / "out", {})
  assert about["dropped"] == {write.TRAIN_COPIES: 20}
  assert about["notes"][-1] == "16 rows of train have the same text as a row of test"


def test_labels_by_name_or_id(tmp_path):
  path = tmp_path / "mine.jsonl"

  def build_with(*values, labels=("no", "yes")):
    rows = [{"text": f"text {i}", "label": v} for i, v in enumerate(values)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    build.build_from_files(f"{path}", output, {}, labels)
    splits = read_splits(output)
    return splits.labels, sum((s.label >= 0).sum() for s in splits[:3])

  assert build_with(*["No", "YES"] * 20) == (("no", "yes"), 40)
  assert build_with(*[0, 1] * 20) == (("no", "yes"), 40)
  assert build_with(*[0.0, 1.0, None, float("nan")] * 20) == (("no", "yes"), 40)
  assert build_with(*[False, True] * 20, labels=("false", "true"))[1] == 40
  assert build_with(*[0, 1, 2] * 20, labels=()) == (("0", "1", "2"), 60)
  for bad in ("maybe", 2, -1, 0.5, True):
    with pytest.raises(UserError) as error:
      build_with("no", "yes", bad)
    assert f"{path}, line 3: label is {bad!r}, which is not one of no, yes" in str(
      error.value
    )
  with pytest.raises(UserError, match="'rude', which is not a class id"):
    build_with("rude", labels=())
  with pytest.raises(UserError, match="no row of train is 'maybe'"):
    build_with(*["no", "yes"] * 20, labels=("no", "yes", "maybe"))


def test_dropped_rows_are_counted(tmp_path):
  train = tmp_path / "train.csv"
  write_csv(train)
  train.write_text(train.read_text() + ",fine,x\n \t,rude,x\nunlabelled text,,x\n")
  test = write_csv(tmp_path / "test.csv", 9, first=100)
  test.write_text(test.read_text() + "nobody judged this,,x\n")
  about = make(f"{train},{test}", tmp_path / "out")
  assert about["dropped"] == {"no text": 2, "no label": 1}
  assert about["rows"]["train"]["unlabelled"] == 1
  assert (read_splits(tmp_path / "out").train.label == -1).sum() == 1


def test_ids_are_kept_or_generated(tmp_path):
  path = tmp_path / "mine.jsonl"
  rows = [{"key": 100 + i, "text": f"text {i}", "label": i % 2} for i in range(40)]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  build.build_from_files(str(path), tmp_path / "kept", {"id": "key"})
  build.build_from_files(str(path), tmp_path / "made", {})
  ids = lambda name: {
    i for s in read_splits(tmp_path / name)[:3] for i in s.column("id")
  }
  assert ids("kept") == {str(100 + i) for i in range(40)}
  assert ids("made") == {f"mine.jsonl-train:{i}" for i in range(1, 41)}


@pytest.mark.parametrize("id_", [b"r0", True, ["r0"]])
def test_ids_of_another_type_are_refused(tmp_path, id_):
  path = tmp_path / "mine.parquet"
  pq.write_table(pa.table({"id": [id_], "text": ["x"], "label": [0]}), path)
  with pytest.raises(UserError, match=r"row 1: id is .*, but should be a string or"):
    build.build_from_files(str(path), tmp_path / "out", {})


@pytest.mark.parametrize(
  ("columns", "words"),
  [
    (
      {"text": "prompt"},
      ["mine.csv, line 2: no column 'prompt'", "say, verdict, kind"],
    ),
    ({"text": "say", "label": "truth"}, ["no column 'truth'", "--columns=label=NAME"]),
    ({"body": "say"}, ["--columns: unknown name 'body'", "id, text, response"]),
  ],
)
def test_missing_columns(tmp_path, columns, words):
  with pytest.raises(UserError) as error:
    build.build_from_files(
      str(write_csv(tmp_path / "mine.csv")), tmp_path / "out", columns, LABELS
    )
  for word in words:
    assert word in str(error.value)
  assert not (tmp_path / "out").exists()


def test_an_existing_output_is_not_touched(tmp_path):
  source = write_csv(tmp_path / "mine.csv")
  output = tmp_path / "out"
  output.mkdir()
  (output / "precious.txt").write_text("mine")
  with pytest.raises(UserError, match="already exists"):
    make(source, output)
  assert [p.name for p in output.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("moment", ["write", "describe", "rename", "interrupt"])
def test_a_crash_leaves_nothing(tmp_path, monkeypatch, moment):
  source = write_csv(tmp_path / "mine.csv")
  written = []
  real = pq.write_table

  def fail(*_, **__):
    raise (KeyboardInterrupt if moment == "interrupt" else OSError)("no space left")

  def second(table, path, **more):
    written.append(path)
    if len(written) == 2:
      fail()
    real(table, path, **more)

  if moment in ("write", "interrupt"):
    monkeypatch.setattr(pq, "write_table", second)
  elif moment == "describe":
    monkeypatch.setattr(write, "write_json", fail)
  else:
    monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(KeyboardInterrupt if moment == "interrupt" else UserError):
    make(source, tmp_path / "out")
  assert [p.name for p in tmp_path.iterdir()] == ["mine.csv"]


def test_a_hub_dataset_with_other_names(tmp_path, monkeypatch):
  def part(begin):
    rows = ({"post": f"text {i}", "verdict": i % 2} for i in range(begin, begin + 30))
    return hub.HubSplit(rows, {"verdict": ("no", "yes")}, ("post", "verdict"))

  seen = []

  def load(name, config):
    seen.append((name, config))
    return {"30k_train": part(0), "30k_test": part(100)}

  monkeypatch.setattr(hub, "load_hub_dataset", load)
  columns = {"text": "post", "label": "verdict"}
  splits = {"train": "30k_train", "test": "30k_test"}
  about = build.build_from_files(
    "made/up", tmp_path / "out", columns, splits=splits, config="v2"
  )
  assert seen == [("made/up", "v2")]
  assert about["labels"] == ["no", "yes"]
  assert read_splits(tmp_path / "out").test.column("id")[0] == "up-test:1"
  about = build.build_from_files(
    "made/up", tmp_path / "mine", columns, ("fine", "rude"), splits
  )
  assert about["labels"] == ["fine", "rude"]
  with pytest.raises(UserError, match="30k_train, 30k_test"):
    build.build_from_files("made/up", tmp_path / "two", columns)
  with pytest.raises(UserError, match="no split 'dev'"):
    build.build_from_files("made/up", tmp_path / "two", columns, splits={"test": "dev"})
  with pytest.raises(UserError, match="made/up train, row 1: no column 'x'"):
    build.build_from_files("made/up", tmp_path / "two", {"text": "x"}, splits=splits)


@pytest.mark.parametrize(
  ("source", "more", "words"),
  [
    ("wildgard", {}, "did you mean wildguardmix?"),
    ("absent.csv", {}, "absent.csv: no such file"),
    ("imdb", {"labels": ["a", "b"]}, "cannot be used with the named source imdb"),
    ("imdb", {"task": "response"}, "only has labels for prompt"),
    ("absent.csv", {"task": "response"}, "--task is for named sources"),
    ("absent.csv", {"columns": ["text"]}, "--columns: 'text' should be OURS=THEIRS"),
    (
      "absent.csv",
      {"columns": ["label=a", "text=b", "label=c"]},
      "--columns: label is given twice (a and c); keep one of them",
    ),
    ("made/up", {"splits": ["test=a", "test=a"]}, "--splits: test is given twice"),
    ("made/up", {"splits": ["dev=x"]}, "--splits: unknown name 'dev'; use train"),
  ],
)
def test_invalid_arguments(tmp_path, source, more, words):
  with pytest.raises(UserError) as error:
    prepare.prepare(source, str(tmp_path / "out"), **more)
  assert words in str(error.value)
  assert not (tmp_path / "out").exists()


def test_dropped_views_are_counted(tmp_path):
  view = {"kind": "llm", "text": "other", "response": None, "origin": ""}
  rows = [{"text": f"text {i}", "label": i % 2, "views": [view]} for i in range(40)]
  rows[3]["views"], rows[4]["text"] = [], " "  # no view; a dropped row
  path = tmp_path / "all.jsonl"
  path.write_text("\n".join(map(json.dumps, rows)))
  about = build.build_from_files(str(path), tmp_path / "out", {})
  assert about["notes"][0].startswith("dropped the views of 38 rows")
  for row in rows:
    row.pop("views")
  path.write_text("\n".join(map(json.dumps, rows)))
  about = build.build_from_files(str(path), tmp_path / "plain", {})
  assert not any("views" in note for note in about["notes"])


def test_invalid_unicode_reports_the_line(tmp_path):
  path = tmp_path / "all.jsonl"
  texts = ["a", " ", "b", "x\ud800"]  # the second row is dropped
  path.write_text("\n\n".join(json.dumps({"text": text}) for text in texts))
  with pytest.raises(UserError, match="line 7: text contains half a surrogate pair"):
    build.build_from_files(str(path), tmp_path / "out", {})

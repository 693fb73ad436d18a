"""Reads the splits that `--config.data` names, and checks them."""

import gzip
import json

import numpy as np
import pytest

from ssljax.data.records.read import read_labelled, read_splits
from ssljax.errors import UserError


def rows(prefix, n=4, classes=2, **more):
  return [
    {"id": f"{prefix}{i}", "text": f"{prefix} text {i}", "label": i % classes, **more}
    for i in range(n)
  ]


def write_jsonl(path, lines):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(json.dumps(row) + "\n" for row in lines))
  return path


def folder(tmp_path, train=None, validation=None, test=None):
  write_jsonl(tmp_path / "train.jsonl", rows("a") if train is None else train)
  write_jsonl(tmp_path / "val.jsonl", rows("b") if validation is None else validation)
  write_jsonl(tmp_path / "test.jsonl", rows("c") if test is None else test)
  return tmp_path


def failure(data):
  with pytest.raises(UserError) as error:
    read_splits(data)
  return str(error.value)


def test_folder_of_files(tmp_path):
  (tmp_path / "README.md").write_text("about")
  splits = read_splits(folder(tmp_path))
  assert [len(splits.train), len(splits.validation), len(splits.test)] == [4, 4, 4]
  assert splits.train.column("id") == ["a0", "a1", "a2", "a3"]
  assert splits.test.column("id")[0] == "c0"
  assert splits.labels == ("0", "1")
  assert splits.notes == ()


@pytest.mark.parametrize("word", ["validation", "val", "valid", "dev"])
def test_words_for_validation(tmp_path, word):
  folder(tmp_path)
  (tmp_path / "val.jsonl").rename(tmp_path / f"{word}.jsonl")
  assert read_splits(tmp_path).validation.column("id")[0] == "b0"


def test_prepared_folder_with_part_files(tmp_path):
  for name in ("train", "validation", "test"):
    for part in (0, 1):
      # Without ids; part files with the same name must still get different ids.
      lines = [{"text": f"{name} {part} {i}", "label": i} for i in (0, 1)]
      write_jsonl(tmp_path / name / f"part-{part}.jsonl", lines)
  (tmp_path / "dataset.json").write_text("{}")
  splits = read_splits(tmp_path)
  assert splits.train.column("text") == [
    "train 0 0",
    "train 0 1",
    "train 1 0",
    "train 1 1",
  ]


def test_folder_in_the_layout_of_the_hub(tmp_path):
  names = ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")
  names += ("validation-00000-of-00001",)
  for name in names:
    write_jsonl(tmp_path / "data" / f"{name}.jsonl", rows(f"{name} "))
  write_jsonl(tmp_path / "data" / "extra.jsonl", rows("extra"))
  splits = read_splits(tmp_path)
  assert [len(part) for part in splits[:3]] == [8, 4, 4]
  assert splits.train.column("id")[::4] == [f"{name} 0" for name in names[:2]]
  assert splits.notes == (
    f"{tmp_path}: read the files in {tmp_path / 'data'} (train 2, validation 1, test "
    "1)",
    f"{tmp_path}: ignored files: data/extra.jsonl",
  )
  assert read_splits(tmp_path / "data")[:3] == splits[:3]
  listed = ",".join(str(tmp_path / "data" / f"{name}.jsonl") for name in names)
  assert read_splits(listed)[:3] == splits[:3]
  assert len(read_labelled(tmp_path)) == 4
  (tmp_path / "data" / f"{names[0]}.jsonl").unlink()
  assert "train has 2 shards, but shard 0 is missing" in failure(tmp_path)
  write_jsonl(tmp_path / "data" / "train.jsonl", rows("more"))
  assert "a second file for the train split" in failure(tmp_path)


@pytest.mark.parametrize(
  "name",
  [
    "data/SPLIT-00000-of-00001-a1b2c3d4e5f60718.jsonl",
    "SPLIT-00000-of-00001-0123456789abcdef.jsonl",
    "english/SPLIT-00000-of-00001.jsonl",
    "default/SPLIT/0000.jsonl",
    "plain_text/SPLIT.jsonl",
    "data/en/SPLIT-00000-of-00001.jsonl",
  ],
)
def test_layouts_of_the_hub(tmp_path, name):
  for split in ("train", "validation", "test"):
    write_jsonl(tmp_path / name.replace("SPLIT", split), rows(split))
  (tmp_path / ".cache" / "train").mkdir(parents=True)
  splits = read_splits(tmp_path)
  for split, part in splits._asdict().items():
    if split in ("train", "validation", "test"):
      assert part.column("id") == [f"{split}{i}" for i in range(4)]
  if "/" in name:
    inner = tmp_path / name.partition("/SPLIT")[0]
    assert f"read the files in {inner} (train 1," in splits.notes[0]
  assert len(read_labelled(tmp_path)) == 4


def test_a_shard_that_is_there_twice(tmp_path):
  names = ("-a1b2c3d4e5f60718", "-0123456789abcdef", "")
  paths = [tmp_path / f"train-00000-of-00001{name}.jsonl" for name in names]
  for path in paths[:2]:
    write_jsonl(path, rows(path.stem))
  assert f"{paths[0]}: the same shard as {paths[1]}; keep one" in failure(tmp_path)
  paths[1].rename(paths[2])
  assert f"{paths[2]}: the same shard as {paths[0]}; keep one" in failure(tmp_path)
  assert "the same shard as" in failure(f"{paths[0]},{paths[0]}")


def test_hidden_files_are_not_data(tmp_path):
  for name in ("train", "validation", "test"):
    write_jsonl(tmp_path / name / "part-0.jsonl", rows(name))
  (tmp_path / "train" / "._part-0.jsonl").write_bytes(b"\x00\x05\x16\x07")
  (tmp_path / "._train.jsonl").write_bytes(b"\x00\x05\x16\x07")
  (tmp_path / ".train").mkdir()
  splits = read_splits(tmp_path)
  assert [len(part) for part in splits[:3]] == [4, 4, 4]
  assert splits.notes == ()


def test_suffixes_in_capitals(tmp_path):
  folder(tmp_path)
  with gzip.open(tmp_path / "TRAIN.JSONL.GZ", "wb") as file:
    file.write((tmp_path / "train.jsonl").read_bytes())
  (tmp_path / "train.jsonl").unlink()
  splits = read_splits(tmp_path)
  assert splits.train.column("id") == ["a0", "a1", "a2", "a3"]
  assert splits.train.column("source") == ["TRAIN"] * 4


def test_files_with_commas(tmp_path):
  folder(tmp_path)
  names = {"train": "my-train", "val": "my_dev_set", "test": "test.v2"}
  for old, new in names.items():
    (tmp_path / f"{old}.jsonl").rename(tmp_path / f"{new}.jsonl")
  paths = [str(tmp_path / f"{names[n]}.jsonl") for n in ("test", "train", "val")]
  splits = read_splits(" , ".join(paths))
  assert [p.column("id")[0] for p in splits[:3]] == ["a0", "b0", "c0"]


def test_a_single_file_is_split_and_noted(tmp_path):
  lines = rows("x", 200)
  lines += [{**row, "id": f"again {row['id']}"} for row in lines[:100]]
  lines += [{"id": f"u{i}", "text": f"unlabelled {i}"} for i in range(30)]
  path = write_jsonl(tmp_path / "all.jsonl", lines)
  splits = read_splits(path)
  sizes = [len(splits.train), len(splits.validation), len(splits.test)]
  assert sum(sizes) == 330
  assert abs(sizes[2] - 60) <= 2
  assert abs(sizes[1] - 30) <= 2
  assert (splits.train.label == -1).sum() == 30
  texts = [set(part.column("text")) for part in splits[:3]]
  assert not texts[0] & texts[1]
  assert not texts[0] & texts[2]
  assert not texts[1] & texts[2]
  assert "split the file 70/10/20 with seed 0" in splits.notes[0]
  again = read_splits(path)
  assert again[:3] == splits[:3]
  assert read_splits(path, seed=1).test != splits.test


def test_label_names(tmp_path):
  named = [
    {"id": f"n{i}", "text": "x", "label": i % 2, "label_name": ["no", "yes"][i % 2]}
    for i in range(4)
  ]
  assert read_splits(folder(tmp_path, train=named)).labels == ("no", "yes")
  assert read_splits(folder(tmp_path, test=named)).labels == ("no", "yes")
  message = failure(
    folder(tmp_path, train=named, test=[{**named[0], "id": "t", "label": 1}])
  )
  assert f"{tmp_path / 'test.jsonl'}, line 1: label_name is 'no' for label 1" in message
  message = failure(
    folder(tmp_path, train=[*named, {**named[1], "id": "t", "label_name": "oui"}])
  )
  assert (
    f"{tmp_path / 'train.jsonl'}, line 5: label_name is 'oui' for label 1" in message
  )
  assert "label 1 is named 'yes'" in message
  alike = [{**row, "label_name": "same"} for row in named]
  message = failure(folder(tmp_path, train=alike))
  assert "line 2: label_name is 'same' for label 1" in message
  assert "label 0 is named 'same'" in message


def test_ignored_columns_are_noted(tmp_path):
  splits = read_splits(folder(tmp_path, train=rows("a", url="x", score=1)))
  assert splits.notes == (f"{tmp_path / 'train.jsonl'}: ignored columns: url, score",)


def test_unlabelled_rows_only_in_train(tmp_path):
  lines = [*rows("u"), {"id": "none", "text": "x", "label": None}]
  splits = read_splits(folder(tmp_path, train=lines))
  assert splits.train.label.tolist() == [0, 1, 0, 1, -1]
  for name, file in (("validation", "val"), ("test", "test")):
    folder(tmp_path, **{name: [*rows("v"), {"id": "none", "text": "x"}]})
    message = failure(tmp_path)
    assert f"{file}.jsonl, line 5: label is missing (null)" in message
    folder(tmp_path)


@pytest.mark.parametrize(
  ("train", "words"),
  [
    ([], ["train.jsonl", "the train split has no rows"]),
    ([{"text": "x"}], ["train.jsonl", "the train split has no labels"]),
    (rows("a", classes=1), ["the train split has only label 0"]),
    (
      [{"text": "x", "label": n} for n in (0, 2)],
      ["the train split has label 2", "line 2", "but no label 1"],
    ),
    (
      [{"text": "x", "label": n} for n in (0, 2_000_000_000)],
      ["has label 2000000000", "but no label 1"],
    ),
    (rows("b"), ["val.jsonl, line 1: id 'b0' already occurs in", "train.jsonl"]),
  ],
)
def test_invalid_train_split(tmp_path, train, words):
  message = failure(folder(tmp_path, train=train))
  for word in words:
    assert word in message


def test_label_missing_from_train(tmp_path):
  message = failure(folder(tmp_path, test=rows("c", classes=3)))
  assert f"{tmp_path / 'test.jsonl'}, line 3: label 2 is unknown" in message
  assert "labels 0 to 1" in message


def test_missing_and_duplicate_splits(tmp_path):
  folder(tmp_path)
  (tmp_path / "val.jsonl").unlink()
  found = "(found: train, test; data files: test.jsonl, train.jsonl)"
  assert f"no validation split {found}" in failure(tmp_path)
  assert "70/10/20" in failure(tmp_path)
  write_jsonl(tmp_path / "val.jsonl", rows("b"))
  write_jsonl(tmp_path / "dev.csv", rows("d"))
  assert "a second file for the validation split" in failure(tmp_path)
  (tmp_path / "dev.csv").unlink()
  (tmp_path / "train").mkdir()
  assert "the folder has no data file" in failure(tmp_path)
  write_jsonl(tmp_path / "train" / "part.jsonl", rows("e"))
  assert "a second file for the train split" in failure(tmp_path)


def test_invalid_files_with_commas(tmp_path):
  train, test = (
    write_jsonl(tmp_path / "train.jsonl", rows("a")),
    tmp_path / "test.jsonl",
  )
  assert failure(f"{train},{test}").startswith(f"{test}: no such file")
  write_jsonl(test, rows("b"))
  assert "no validation split" in failure(f"{train},{test}")
  both = write_jsonl(tmp_path / "train-test.jsonl", rows("c"))
  assert "must contain exactly one of the words" in failure(f"{train},{both}")
  more = write_jsonl(tmp_path / "more-train.jsonl", rows("d"))
  assert "a second file for the train split" in failure(f"{train},{more}")


def test_missing_or_empty_data(tmp_path):
  assert "no such file or folder" in failure(tmp_path / "absent")
  assert "no data given" in failure("")
  assert "no train and no validation and no test split" in failure(tmp_path)
  write_jsonl(tmp_path / "few.jsonl", rows("a", 2))
  assert "too few labelled rows to split" in failure(tmp_path / "few.jsonl")


def test_read_labelled(tmp_path):
  path = write_jsonl(tmp_path / "more.jsonl", rows("a"))
  assert len(read_labelled(path, ("no", "yes"))) == 4
  assert len(read_labelled(folder(tmp_path / "all"))) == 4

  def error_of(lines, labels=("no", "yes")):
    with pytest.raises(UserError) as error:
      read_labelled(write_jsonl(path, lines), labels)
    return str(error.value)

  assert "line 5: label is missing" in error_of([*rows("a"), {"text": "x"}])
  assert "line 3: label 2 is unknown: the model" in error_of(rows("a", classes=3))
  assert "label_name is 'yes' for label 0" in error_of(rows("a", 1, label_name="yes"))
  assert "no rows" in error_of([])
  # If the model has no class names, a file may have any.
  named = write_jsonl(path, rows("a", 1, label_name="safe"))
  assert len(read_labelled(named, ("0", "1"))) == 1
  (tmp_path / "all" / "test.jsonl").unlink()
  with pytest.raises(UserError, match="no test split"):
    read_labelled(tmp_path / "all")


def test_many_rows(tmp_path):
  n = 60_000
  folder(tmp_path, train=rows("a", n))
  splits = read_splits(tmp_path)
  assert len(splits.train) == n
  assert np.bincount(splits.train.label).tolist() == [n // 2, n // 2]


def test_missing_labels_point_to_predict(tmp_path):
  (tmp_path / "some.jsonl").write_text('{"text": "a", "label": 0}\n{"text": "b"}\n')
  with pytest.raises(UserError, match=r"line 2: label is missing .*ssljax\.predict"):
    read_labelled(tmp_path / "some.jsonl")

"""Folders that hold more than one set of splits, or other files beside it."""

import pytest

from ssljax.data.records.read import read_labelled, read_splits
from ssljax.data.sources import build
from ssljax.errors import UserError
from tests.data.records.split_files_test import failure, rows, write_jsonl


@pytest.mark.parametrize("name", ["data/SPLIT.jsonl", "english/SPLIT.jsonl"])
def test_a_folder_called_test_that_holds_something_else(tmp_path, name):
  for split in ("train", "validation", "test"):
    write_jsonl(tmp_path / name.replace("SPLIT", split), rows(split))
  for other in ("test", "scripts/test", "a/b/test"):
    (tmp_path / other).mkdir(parents=True)
    (tmp_path / other / "check.py").write_text("pass")
  assert read_splits(tmp_path).test.column("id")[0] == "test0"
  (tmp_path / name.replace("SPLIT", "train")).unlink()
  assert "no train split" in failure(tmp_path)


@pytest.mark.parametrize("inner", ["data", "more"])
def test_splits_in_a_subfolder_of_a_folder_with_splits(tmp_path, inner):
  train = write_jsonl(tmp_path / "train.jsonl", rows("train", 40))
  for split in ("validation", "test"):
    write_jsonl(tmp_path / inner / f"{split}.jsonl", rows(split))
  write_jsonl(tmp_path / inner / "about.json", rows("x"))
  about = build.build_from_files(str(tmp_path), tmp_path / "out", {})
  assert about["files"] == {"train": [str(train)]}
  assert about["notes"][0] == (
    f"{tmp_path}: ignored files: {inner}/test.jsonl, {inner}/validation.jsonl"
  )


def test_several_configurations(tmp_path):
  for name in ("en", "de"):
    write_jsonl(tmp_path / name / "train-00000-of-00001.jsonl", rows(name))
  message = failure(tmp_path)
  assert "splits are in several subfolders (de, en)" in message
  assert f"give one of them, such as {tmp_path / 'de'}" in message


def test_files_that_belong_to_no_split_are_listed(tmp_path):
  for i in range(9):
    write_jsonl(tmp_path / "a" / "b" / f"part{i}.jsonl", rows("x"))
  write_jsonl(tmp_path / "30k_train.jsonl", rows("x"))
  listed = ", ".join(f"a/b/part{i}.jsonl" for i in range(7))
  message = failure(tmp_path)
  assert f"(found: none; data files: 30k_train.jsonl, {listed} and 2 more)" in message
  with pytest.raises(UserError, match="no test split; data files: 30k_train"):
    read_labelled(tmp_path)

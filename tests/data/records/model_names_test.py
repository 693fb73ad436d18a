"""Label names in a file on which a model is scored, and in the splits of a dataset."""

import json
import re

import pytest

from ssljax.data.records.read import (
  read_labelled,
  read_labelled_with_notes,
  read_splits,
)
from ssljax.data.sources import build
from ssljax.errors import UserError
from tests.data.sources.own_names_test import write_parquet

HARM = ("unharmful", "harmful")


def write_jsonl(path, names):
  rows = (
    {"text": f"text {i}", "label": i % 2, "label_name": name}
    for i, name in enumerate(names)
  )
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def failure(path, labels):
  with pytest.raises(UserError) as error:
    read_labelled(path, labels)
  return str(error.value)


@pytest.mark.parametrize(
  ("declared", "labels"),
  [
    (("harmful", "safe"), ("harmful", "safe")),
    (("not_toxic", "toxic"), HARM),
    (("neg", "pos"), ("negative", "positive")),
    (("Unharmful", "Harmful "), HARM),
    (("0", "1"), HARM),
    (("a", "A"), ("a", "A")),
    (("neg", "pos", "negligible"), ("neg", "pos")),  # no row has class 2
  ],
)
def test_declared_names_that_mean_the_same(tmp_path, declared, labels):
  source = write_parquet(tmp_path / "rows.parquet", declared)
  records, notes = read_labelled_with_notes(source, labels)
  assert (len(records), notes) == (60, [])
  build.build_from_files(source, tmp_path / "out", {}, as_="test")
  assert len(read_labelled(tmp_path / "out", labels)) == 60


@pytest.mark.parametrize(
  ("declared", "labels", "label"),
  [
    (("harmful", "safe"), ("safe", "harmful"), "the model's label 1 is 'harmful'"),
    (("toxic", "fine"), HARM, "the model's label 1 is 'harmful'"),
    (("pos", "neg"), ("negative", "positive"), "the model's label 1 is 'positive'"),
    (("a", "safe"), ("fine", "toxic"), "the model's label 1 is 'toxic'"),
    (("yes", "no"), HARM, "the model's label 0 is 'unharmful'"),
    (("bad", "good"), HARM, "the model's label 0 is 'unharmful'"),
  ],
)
def test_declared_names_of_other_classes(tmp_path, declared, labels, label):
  source = write_parquet(tmp_path / "rows.parquet", declared)
  message = failure(source, labels)
  assert message.startswith(f"{source}, row ")
  assert label in message
  assert "--as=test --columns=label_name=`; otherwise add --labels=" in message
  for pairs in ((), ("0:1", "1:0")):
    output = tmp_path / f"out{len(pairs)}"
    build.build_from_files(source, output, {"label_name": ""}, pairs, as_="test")
    records = read_labelled(output, labels)
    assert int(records.label[0]) == bool(pairs)


def test_declared_names_that_the_model_does_not_have(tmp_path):
  source = write_parquet(tmp_path / "rows.parquet", ("non_toxic", "toxic"))
  records, notes = read_labelled_with_notes(source, ("kind", "harsh"))
  assert len(records) == 60
  assert notes == [
    f"{source}, row 1: other class names than the model's: label 0 is 'non_toxic' "
    "('kind' in the model), label 1 is 'toxic' ('harsh' in the model)"
  ]


def test_names_that_say_nothing_certain_are_noted(tmp_path):
  path = tmp_path / "rows.jsonl"
  for names, labels, note in (
    (("unharmful", "spam"), HARM, "label 1 is 'spam' ('harmful' in the model)"),
    (("harm", "harmful"), ("harmless", "harmful"), "label 0 is 'harm' ('harmless' in"),
    (("harmful", "safe"), ("0", "1"), "label 1 is 'safe' (no name in the model)"),
    ("abcdefg", tuple("0123456"), "label 4 is 'e' (no name in the model), …"),
  ):
    rows = ({"text": n, "label": i, "label_name": n} for i, n in enumerate(names))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    [found] = read_labelled_with_notes(path, labels)[1]
    assert re.match(rf"{path}, line [12]: other class names than the model's: ", found)
    assert note in found


def test_a_column_of_names(tmp_path):
  path = tmp_path / "rows.jsonl"
  for names in (HARM, ("Unharmful ", "HARMFUL"), ("not toxic", "toxic"), ("", None)):
    assert len(read_labelled(write_jsonl(path, names), HARM)) == 2
  message = failure(write_jsonl(path, HARM[::-1]), HARM)
  assert f"{path}, line 1: label_name is 'harmful' for label 0, but the" in message
  for labels in (HARM, ("0", "1"), ("x", "y")):
    message = failure(write_jsonl(path, ("same", "same")), labels)
    assert "line 2: label_name is 'same' for label 1, but 'same' for label 0" in message
    message = failure(write_jsonl(path, ("good", "z", "bad")), labels)
    assert "line 3: label_name is 'bad' for label 0, but 'good' for label 0" in message
  assert len(read_labelled(write_jsonl(path, "-+"), ("-", "+"))) == 2


@pytest.mark.parametrize("names", [("Neg", "POS "), ("", " "), ("neg", None)])
def test_a_column_that_writes_declared_names_differently(tmp_path, names):
  column = {"label_name": list(names) * 30}
  for declared in (("neg", "pos"), ("Neg", "Pos")):
    source = write_parquet(tmp_path / "rows.parquet", declared, **column)
    splits = read_splits(source)
    assert splits.labels == declared
    assert set(splits.train.column("label_name")) == set(declared)
    build.build_from_files(source, tmp_path / declared[0], {})
    assert read_splits(tmp_path / declared[0]).labels == declared


def test_names_that_differ_only_in_case_and_are_exchanged(tmp_path):
  names = {"label_name": ["a", "A"] * 30}
  source = write_parquet(tmp_path / "rows.parquet", ("A", "a"), **names)
  with pytest.raises(UserError, match="label_name is 'a', but the dataset declares"):
    build.build_from_files(source, tmp_path / "out", {})


def test_splits_that_write_names_differently(tmp_path):
  write_jsonl(tmp_path / "train.jsonl", HARM * 2)
  write_jsonl(tmp_path / "val.jsonl", ("Unharmful", "HARMFUL"))
  write_jsonl(tmp_path / "test.jsonl", (" ", ""))
  for name in ("train", "val", "test"):
    path = tmp_path / f"{name}.jsonl"
    path.write_text(path.read_text().replace("text ", f"{name} "))
  assert read_splits(tmp_path).labels == HARM

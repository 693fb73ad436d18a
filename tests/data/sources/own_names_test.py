"""What the data says about its ids, by label_name or ClassLabel, cannot be swapped."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax import run_config
from ssljax.data.records.read import read_splits
from ssljax.data.sources import build
from ssljax.errors import UserError

OWN = ("harmful", "ok")


def write_jsonl(path, names=OWN, n=60, **more):
  rows = (
    {"text": f"text {i}", "label": i % 2, "label_name": names[i % 2], **more}
    for i in range(n)
  )
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def write_parquet(path, names=("harmful", "safe"), n=60, **columns):
  """A file as the library `datasets` writes it."""
  table = pa.table(
    {
      "text": [f"{path.stem} {i}" for i in range(n)],
      "label": [i % 2 for i in range(n)],
      **columns,
    }
  )
  features = {"label": {"names": list(names), "_type": "ClassLabel"}}
  metadata = {"huggingface": json.dumps({"info": {"features": features}})}
  path.parent.mkdir(parents=True, exist_ok=True)
  pq.write_table(table.replace_schema_metadata(metadata), path)
  return str(path)


def names_of_even_rows(folder):
  """The class names of the even rows, which have label 0 in the source."""
  splits = read_splits(folder)
  return {
    splits.labels[label]
    for part in splits[:3]
    for text, label in zip(part.column("text"), part.label, strict=True)
    if int(text.split()[1]) % 2 == 0
  }


def test_a_label_name_isnt_overwritten(tmp_path):
  source = write_jsonl(tmp_path / "rows.jsonl")
  with pytest.raises(UserError) as error:
    build.build_from_files(source, tmp_path / "no", {}, ("ok", "harmful"))
  assert f"{source}, line 1: the row's class is 0 and its name" in str(error.value)
  assert "'harmful', but --labels says that 'harmful' is class 1" in str(error.value)
  for columns, labels in (
    ({}, ()),
    ({}, ("harmful", "ok")),
    ({}, ("0", "1")),
    ({}, ("0:1", "1:0")),
    ({"label": "label_name"}, ("ok", "harmful")),
    ({"label": "label_name"}, ("ok:0", "harmful:1")),
  ):
    output = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    build.build_from_files(source, output, columns, labels)
    assert names_of_even_rows(output) == {"harmful"}
  swapped = {"label_name": ""}  # the user knows that the names are wrong
  build.build_from_files(source, tmp_path / "out", swapped, ("ok", "harmful"))
  assert names_of_even_rows(tmp_path / "out") == {"ok"}


def test_a_name_that_means_the_opposite(tmp_path):
  source = write_jsonl(tmp_path / "rows.jsonl")
  with pytest.raises(UserError, match="but --labels calls this class 'benign'"):
    build.build_from_files(source, tmp_path / "no", {}, ("benign", "bad"))
  about = build.build_from_files(source, tmp_path / "out", {}, ("rude", "fine"))
  assert "--labels renames 'harmful' to 'rude', 'ok' to 'fine'" in about["notes"]


def test_one_label_name_with_two_labels(tmp_path):
  source = write_jsonl(tmp_path / "rows.jsonl", ("same", "same"))
  with pytest.raises(UserError, match=r"line 1 has the same name and is class 0"):
    build.build_from_files(source, tmp_path / "no", {}, ("a", "b"))


def test_names_that_a_parquet_file_declares(tmp_path):
  source = write_parquet(tmp_path / "rows.parquet")
  with pytest.raises(UserError, match="the dataset declares it as class 1"):
    build.build_from_files(source, tmp_path / "no", {}, ("safe", "harmful"))
  with pytest.raises(UserError, match="but --labels calls this class 'ok'"):
    build.build_from_files(source, tmp_path / "no", {}, ("ok", "rude"))
  for labels in ((), ("harmful", "safe"), ("safe:0", "harmful:1"), ("0:1", "1:0")):
    output = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    build.build_from_files(source, output, {}, labels)
    assert names_of_even_rows(output) == {"harmful"}


def test_declared_names_can_be_left_out(tmp_path):
  source, out = write_parquet(tmp_path / "rows.parquet"), {"label_name": ""}
  for labels, even in (
    ((), "0"),
    (("ok", "rude"), "ok"),
    (("safe", "harmful"), "safe"),  # the user knows that the names are wrong
    (("0:1", "1:0"), "1"),
    (("1", "2"), "1"),  # the values are still ids
  ):
    output = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    build.build_from_files(source, output, out, labels)
    assert names_of_even_rows(output) == {even}


def test_declared_names_that_differ_only_in_case(tmp_path):
  source = write_parquet(tmp_path / "rows.parquet", ("a", "A"))
  for labels, even in (((), "a"), (("x", "y"), "x"), (("0:1", "1:0"), "a")):
    output = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    build.build_from_files(source, output, {}, labels)
    assert names_of_even_rows(output) == {even}


@pytest.mark.parametrize("test_is_named", [True, False])
def test_rows_without_the_name_that_others_have(tmp_path, test_is_named):
  (tmp_path / "data").mkdir()
  write_jsonl(tmp_path / "data" / "train.jsonl")
  test = tmp_path / "data" / "test.jsonl"
  rows = [{"text": f"test {i}", "label": i % 2} for i in range(8)]
  for row in rows[: 4 * test_is_named]:
    row["label_name"] = OWN[row["label"]]
  test.write_text("".join(json.dumps(row) + "\n" for row in rows))
  for labels in (("0:1", "1:0"), ("0", "1"), ()):
    output = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    build.build_from_files(str(tmp_path / "data"), output, {}, labels)
    assert names_of_even_rows(output) == {"harmful"}
    assert set(read_splits(output).test.column("label_name")) == {"harmful", "ok"}


def test_a_label_name_beside_another_column_of_labels(tmp_path):
  """label_name is the name of `label`; it may be a topic."""
  topics = tmp_path / "topics.jsonl"
  rows = ({"text": f"text {i}", "label": i % 3, "harm": i % 2} for i in range(60))
  rows = [{**row, "label_name": "abc"[row["label"]]} for row in rows]
  topics.write_text("".join(json.dumps(row) + "\n" for row in rows))
  for labels, names in ((("ok", "toxic"), ("ok", "toxic")), ((), ("0", "1"))):
    output = tmp_path / f"out{len(labels)}"
    build.build_from_files(str(topics), output, {"label": "harm"}, labels)
    assert read_splits(output).labels == names
  for row in rows[::3]:  # rows of JSON lines may lack a column
    del row["label"]
  topics.write_text("".join(json.dumps(row) + "\n" for row in rows))
  about = build.build_from_files(str(topics), tmp_path / "some", {"label": "harm"})
  assert about["labels"] == ["0", "1"]
  assert "label_name of 60 rows isn't read" in str(about["notes"])
  for row in rows:
    row["label_name"] = OWN[row["harm"]]
  topics.write_text("".join(json.dumps(row) + "\n" for row in rows))
  both = {"label": "harm", "label_name": "label_name"}
  with pytest.raises(UserError, match="--labels says that 'harmful' is class 1"):
    build.build_from_files(str(topics), tmp_path / "no", both, ("ok", "harmful"))


def write_rows(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def test_two_classes_with_one_name(tmp_path):
  rows = [{"text": f"text {i}", "label": i % 2} for i in range(60)]
  for row in rows[::2]:
    row["label_name"] = "1"
  source = write_rows(tmp_path / "rows.jsonl", rows)
  parquet = write_parquet(tmp_path / "rows.parquet", ("1", ""))
  for file in (source, parquet):
    with pytest.raises(UserError, match="label 1 has no name, but another label is"):
      build.build_from_files(file, tmp_path / "no", {})
    with pytest.raises(UserError, match="label 1 has no name, but another label is"):
      read_splits(file)
    output = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    about = build.build_from_files(file, output, {"label_name": ""})
    assert about["labels"] == ["0", "1"]


def test_label_names_of_rows_without_a_label_are_noted(tmp_path):
  rows = [{"text": f"text {i}", "label": i % 2} for i in range(60)]
  rows += [{"text": f"more {i}", "label": None, "label_name": "ok"} for i in range(7)]
  source = write_rows(tmp_path / "rows.jsonl", rows)
  about = build.build_from_files(source, tmp_path / "out", {})
  assert "7 rows have a label_name and no label: they are unlabelled" in str(about)
  named = {"label": "label_name"}
  source = write_rows(
    tmp_path / "rows.jsonl", [{**r, "label_name": "ok"} for r in rows]
  )
  with pytest.raises(UserError) as error:  # and not that label_name isn't read
    build.build_from_files(source, tmp_path / "named", named, ("ok",))
  assert "the train split has only label 0" in str(error.value)


def test_declarations_that_differ_are_refused_also_if_names_are_left_out(tmp_path):
  write_parquet(tmp_path / "train.parquet", ("safe", "harmful"))
  write_parquet(tmp_path / "test.parquet", ("harmful", "safe"))
  with pytest.raises(UserError, match="label has other class names in one place"):
    build.build_from_files(str(tmp_path), tmp_path / "no", {"label_name": ""})


def test_declared_names_of_floats_and_of_text(tmp_path):
  floats = write_parquet(tmp_path / "floats.parquet", label=[0.0, 1.0] * 30)
  assert read_splits(floats).labels == ("harmful", "safe")
  text = write_parquet(tmp_path / "text.parquet", label=["safe", "harmful"] * 30)
  build.build_from_files(text, tmp_path / "out", {}, ("safe", "harmful"))
  assert names_of_even_rows(tmp_path / "out") == {"safe"}


@pytest.mark.parametrize("name", ["test.csv", "test.jsonl"])
def test_ids_beside_a_file_that_declares_numbers(tmp_path, name):
  write_parquet(tmp_path / "train.parquet", ("1", "0"))
  test = tmp_path / name
  test.write_text(
    '{"text": "one", "label": 1}' if ".j" in name else "text,label\na,1\n"
  )
  with pytest.raises(UserError) as error:
    build.build_from_files(str(tmp_path), tmp_path / "no", {})
  assert f"{test}: a label may be a class name or an id, since" in str(error.value)
  assert "train.parquet declares the names 1, 0; prepare" in str(error.value)


def test_a_label_name_that_contradicts_the_declaration(tmp_path):
  names = {"label_name": ["safe", "harmful"] * 30}
  source = write_parquet(tmp_path / "rows.parquet", **names)
  message = "row 1: label_name is 'safe', but the dataset declares label 0 as 'harmful"
  with pytest.raises(UserError, match=message):
    build.build_from_files(source, tmp_path / "no", {})


def test_files_that_declare_different_names(tmp_path):
  first = write_parquet(tmp_path / "train" / "a.parquet")
  second = write_parquet(tmp_path / "train" / "b.parquet", ("safe", "harmful"))
  with pytest.raises(UserError) as error:
    build.build_from_files(str(tmp_path), tmp_path / "no", {})
  assert "other class names in one place than in another" in str(error.value)
  assert f"['harmful', 'safe'] in {first}" in str(error.value)
  assert f"['safe', 'harmful'] in {second}" in str(error.value)


def test_training_and_evaluation_read_declared_names(tmp_path):
  source = write_parquet(tmp_path / "rows.parquet")
  assert read_splits(source).labels == ("harmful", "safe")
  numbers = write_parquet(tmp_path / "numbers.parquet", ("0", "1"))
  assert read_splits(numbers).labels == ("0", "1")
  names = {"label_name": ["safe", "harmful"] * 30}
  both = write_parquet(tmp_path / "both.parquet", **names)
  with pytest.raises(UserError, match="the dataset declares label 0 as 'harmful'"):
    read_splits(both)
  for split, names in (("train", "ab"), ("validation", "ab"), ("test", "ba")):
    write_parquet(tmp_path / "splits" / f"{split}.parquet", names)
  with pytest.raises(UserError, match="label_name is 'b' for label 0, but label 0"):
    read_splits(tmp_path / "splits")


def test_a_run_without_the_declared_names_is_the_same_run():
  saved = {"resolved": {"labels": ["0", "1"]}}
  for labels, same in ((("safe", "rude"), True), (("a", "b", "c"), False)):
    difference = run_config.difference(saved, {"resolved": {"labels": labels}})
    assert bool(difference) != same
  named = {"resolved": {"labels": ["safe", "rude"]}}
  assert run_config.difference(named, {"resolved": {"labels": ["rude", "safe"]}})

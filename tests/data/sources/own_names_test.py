"""What the data says about its ids, by label_name or ClassLabel, cannot be swapped."""

import json
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax import run_config
from ssljax.data.records.read import read_splits
from ssljax.data.sources import build
from ssljax.errors import UserError
from tests import runs

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


@pytest.mark.parametrize("kind", ["ids", "names", "class label", "map", "comma"])
def test_the_advice_of_the_warning_works(tmp_path, kind):
  labels, columns = (), {}
  if kind == "class label":
    source = write_parquet(tmp_path / "rows.parquet")
  elif kind == "ids":
    source = write_jsonl(tmp_path / "rows.jsonl")
  else:
    one = "o, k" if kind == "comma" else "ok"
    source = write_jsonl(tmp_path / "rows.jsonl", ("harmful", one), other="x")
    columns, labels = {"label": "label_name"}, ("harmful", one)
    if kind == "map":
      labels = ("harmful:0", "ok:1", "?:null")
  flags = [f"--columns={k}={v}" for k, v in columns.items()]
  about = build.build_from_files(source, tmp_path / "first", columns, labels)
  warnings = [note for note in about["notes"] if note.startswith("warning")]
  [warning] = warnings
  advice = shlex.split(re.search(r"prepare the data again with (.*)", warning)[1])
  assert run_prepare([f"--source={source}", *flags, *advice], tmp_path / "again") == 0
  assert names_of_even_rows(tmp_path / "again") == {"harmful"}
  assert read_splits(tmp_path / "again").labels[1] == "harmful"
  # Training on the wrong folder, or on the file itself, has advice that works as well.
  for data in (tmp_path / "first", source):
    [note] = [n for n in read_splits(data).notes if n.startswith("warning")]
    advice = shlex.split(re.search(r"prepare the data again with (.*)", note)[1])
    output = tmp_path / f"more {len(list(tmp_path.iterdir()))}"
    assert run_prepare(advice, output) == 0
    assert read_splits(output).labels[1] == "harmful"
    assert names_of_even_rows(output) == {"harmful"}


@pytest.mark.parametrize("kind", ["label_name", "class label"])
def test_the_advice_for_names_that_are_numbers(tmp_path, kind):
  write = write_jsonl if kind == "label_name" else write_parquet
  suffix = ".jsonl" if kind == "label_name" else ".parquet"
  source = write(tmp_path / f"rows{suffix}", ("1", "0"))
  build.build_from_files(source, tmp_path / "first", {})
  swapped = "--columns=label_name= --labels=0:1,1:0"
  for data in (source, str(tmp_path / "first")):
    [note] = [n for n in read_splits(data).notes if n.startswith("warning")]
    assert note.endswith(f"prepare the data again with --source={data} {swapped}")
    output = tmp_path / f"again{len(list(tmp_path.iterdir()))}"
    about = build.build_from_files(data, output, {"label_name": ""}, ("0:1", "1:0"))
    assert not [n for n in about["notes"] if n.startswith("warning")]
    splits = read_splits(output)
    for text, label in zip(
      splits.train.column("text"), splits.train.label, strict=True
    ):
      assert label == 1 - int(text.split()[1]) % 2


def run_prepare(arguments, output):
  done = runs.command("ssljax.data.prepare", *arguments, f"--output={output}")
  assert not done.stderr
  assert "warning:" not in done.stdout
  return done.returncode

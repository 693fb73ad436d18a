"""What the data says about its ids, by label_name or ClassLabel, cannot be swapped."""

import json
import re
import shlex

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax import run_config
from ssljax.data.records.read import read_labelled, read_splits
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


def test_declared_names_of_floats_and_of_text(tmp_path):
  floats = write_parquet(tmp_path / "floats.parquet", label=[0.0, 1.0] * 30)
  assert read_splits(floats).labels == ("harmful", "safe")
  text = write_parquet(tmp_path / "text.parquet", label=["safe", "harmful"] * 30)
  build.build_from_files(text, tmp_path / "out", {}, ("safe", "harmful"))
  assert names_of_even_rows(tmp_path / "out") == {"safe"}


def test_a_csv_beside_a_file_that_declares_numbers(tmp_path):
  write_parquet(tmp_path / "train.parquet", ("1", "0"))
  test = tmp_path / "test.csv"
  test.write_text("text,label\none,1\n")
  with pytest.raises(UserError) as error:
    build.build_from_files(str(tmp_path), tmp_path / "no", {})
  assert f"{test}, line 2: label is the text '1', which may be" in str(error.value)


def test_a_label_name_that_contradicts_the_declaration(tmp_path):
  names = {"label_name": ["safe", "harmful"] * 30}
  source = write_parquet(tmp_path / "rows.parquet", **names)
  message = "row 1: label_name is 'safe', but the file declares label 0 as 'harmful'"
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
  assert len(read_labelled(source, ("harmful", "safe"))) == 60
  assert len(read_labelled(source, ("0", "1"))) == 60
  with pytest.raises(UserError, match="row 1: label_name is 'harmful' for label 0"):
    read_labelled(source, ("safe", "harmful"))
  numbers = write_parquet(tmp_path / "numbers.parquet", ("0", "1"))
  assert read_splits(numbers).labels == ("0", "1")
  names = {"label_name": ["safe", "harmful"] * 30}
  both = write_parquet(tmp_path / "both.parquet", **names)
  with pytest.raises(UserError, match="the file declares label 0 as 'harmful'"):
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


def run_prepare(arguments, output):
  done = runs.command("ssljax.data.prepare", *arguments, f"--output={output}")
  assert not done.stderr
  assert "warning:" not in done.stdout
  return done.returncode

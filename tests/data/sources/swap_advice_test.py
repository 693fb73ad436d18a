"""The flags that a warning about the name of class 1 advises exchange the classes."""

import re
import shlex

import pytest

from ssljax.data.records.read import read_splits
from ssljax.data.sources import build
from tests import runs
from tests.data.sources.own_names_test import (
  names_of_even_rows,
  write_jsonl,
  write_parquet,
)


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

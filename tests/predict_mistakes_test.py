"""User mistakes that `ssljax.predict` reports, before it scores where possible."""

import importlib
import json
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.errors import UserError
from ssljax.inference.rows.jsonl import MAX_DEPTH
from ssljax.runtime import lock
from tests.scored import (
  SURROGATES,
  hidden_files,
  read_rows,
  without_scores,
  write_file,
)

predict = importlib.import_module("ssljax.predict")  # ssljax.predict is a function


@pytest.mark.slow
def test_unpaired_surrogates_are_scored_and_written_unchanged(classifier, tmp_path):
  source, output = write_file(tmp_path / "in.jsonl", SURROGATES), tmp_path / "out.jsonl"
  predict.predict(classifier, source, str(output))
  rows = read_rows(output)
  assert without_scores(rows) == list(map(json.loads, SURROGATES))
  assert r"\ud83d" in output.read_text()
  expected = classifier(["calm", "harm \ufffd", ("harm", "\ufffd steal"), "harm"])
  np.testing.assert_allclose([row["score"] for row in rows], expected, atol=1e-6)


@pytest.mark.parametrize("line", SURROGATES[1:])
@pytest.mark.parametrize("piped", [False, True])
def test_unpaired_surrogates_are_an_error_for_parquet(
  unused, tmp_path, stdin, line, piped
):
  source = write_file(tmp_path / "in.jsonl", [SURROGATES[0], line])
  if piped:
    stdin((tmp_path / "in.jsonl").read_bytes())
    source = "-"
  with pytest.raises(UserError, match=r"line 2: an unpaired.*--output.* in .jsonl"):
    predict.predict(unused, source, str(tmp_path / "out.parquet"))
  assert not hidden_files(tmp_path)


def nested(depth):
  return '{"text": "a", "x": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


BAD_LINES = [
  (b'{"text": 3}', "text: 3 should be a string"),
  (b'{"text": "x", "response": [1]}', "response: .* should be a string"),
  (b'{"prompt": "x"}', r"text: no such column \(others: prompt\)"),
  (b"[1]", "not a JSON object"),
  (b"{", "not valid JSON"),
  (b'{"text": "\xff"}', "not valid UTF-8"),
  (nested(MAX_DEPTH + 1).encode(), f"deeper than {MAX_DEPTH} levels"),
  (nested(990).encode(), "levels|recursion"),
  (nested(100_000).encode(), "recursion|levels"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("piped", [False, True])
def test_a_bad_row_at_the_end_is_reported_before_scoring(
  unused, tmp_path, monkeypatch, stdin, line, message, target, piped
):
  monkeypatch.setattr(predict, "CHUNK_SIZE", 4)
  source, rows = tmp_path / "in.jsonl", b'{"text": "fine"}\n' * 40 + line + b"\n"
  if piped:
    stdin(rows)
  else:
    source.write_bytes(rows)
  before = sorted(tmp_path.iterdir())
  name = "standard input" if piped else source
  with pytest.raises(UserError, match=f"^{name}, line 41: .*{message}"):
    predict.predict(unused, "-" if piped else source, tmp_path / target)
  assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("depth", [2, MAX_DEPTH])
def test_rows_may_be_nested(classifier, tmp_path, depth):
  source = write_file(tmp_path / "in.jsonl", [nested(depth)])
  predict.predict(classifier, source, str(tmp_path / "out.jsonl"))
  rows = read_rows(tmp_path / "out.jsonl")
  assert without_scores(rows) == [json.loads(nested(depth))]


@pytest.mark.parametrize(
  ("column", "target", "message"),
  [
    ("text", "out.parquet", r"row 12: .*decode.*; correct the text"),
    ("text", "out.jsonl", r"row 12: .*decode.*; correct the text"),
    ("other", "out.jsonl", r"row 12: .*decode.*ends in .parquet"),
    ("other", "out.parquet", None),
  ],
)
def test_invalid_utf8_in_parquet_is_reported_before_scoring(
  classifier, tmp_path, monkeypatch, column, target, message
):
  monkeypatch.setattr(predict, "CHUNK_SIZE", 4)
  good = pa.array([b"calm"] * 20)
  bad = pa.array([b"calm"] * 11 + [b"\xff"] + [b"calm"] * 8)
  table = pa.table({"text": good, "other": good} | {column: bad})
  table = pa.table(
    [a.combine_chunks().view(pa.string()) for a in table.columns], table.column_names
  )
  pq.write_table(table, tmp_path / "in.parquet")
  paths = str(tmp_path / "in.parquet"), str(tmp_path / target)
  if message is None:  # the column is copied without being decoded
    predict.predict(classifier, *paths)
    copied = pq.read_table(tmp_path / target).column("other")
    assert copied.combine_chunks().view(pa.binary()) == bad
  else:
    with pytest.raises(UserError, match=message):
      predict.check_input(*paths)


@pytest.mark.parametrize(
  ("columns", "message"),
  [
    ({"text": [1]}, "text: the column has type int64; it should hold strings"),
    ({"text": ["a"], "response": [[1]]}, "response: the column has type list"),
    ({"prompt": ["a"]}, r"text: no such column \(others: prompt\)"),
  ],
)
def test_parquet_columns_of_a_wrong_type(unused, tmp_path, columns, message):
  pq.write_table(pa.table(columns), tmp_path / "in.parquet")
  with pytest.raises(UserError, match=message):
    predict.check_input(str(tmp_path / "in.parquet"), str(tmp_path / "out.jsonl"))


def test_two_columns_of_one_name(tmp_path):
  table = pa.Table.from_arrays([pa.array(["a"])] * 3, ["text", "x", "x"])
  pq.write_table(table, tmp_path / "in.parquet")
  with pytest.raises(UserError, match="two columns are named 'x'"):
    predict.check_input(str(tmp_path / "in.parquet"), str(tmp_path / "out.jsonl"))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"threshold": "fpr=2%"}, "no such threshold"),
    ({"threshold": "7"}, "number must be from 0 to 1"),
    ({"target": "there.jsonl"}, "exists"),
    ({"target": "out.txt"}, "ends in .jsonl, .csv, .tsv or .parquet"),
    ({"target": "out.jsonl.gz"}, "ends in .jsonl, .csv, .tsv or .parquet"),
    ({"source": "absent.jsonl"}, "no such file"),
    ({"source": "pipe.jsonl"}, "not a regular file"),
    ({"target": "there.jsonl/out.jsonl"}, "cannot be written .*name another"),
    ({"target": "/proc/none/out.jsonl"}, "cannot be written .*name another"),
    ({"target": "/proc/out.parquet"}, "cannot be written .*name another"),
    ({"target": f"{'long' * 100}.jsonl"}, "cannot be written .*name another"),
  ],
)
def test_a_mistake_is_reported_and_nothing_is_written(
  unused, tmp_path, change, message
):
  write_file(tmp_path / "in.jsonl", [{"text": "fine"}])
  os.mkfifo(tmp_path / "pipe.jsonl")
  (tmp_path / "there.jsonl").write_text("mine")
  before = sorted(tmp_path.iterdir())
  values = {"source": "in.jsonl", "target": "out.jsonl", "threshold": ""} | change
  paths = (str(tmp_path / values[name]) for name in ("source", "target"))
  with pytest.raises(UserError, match=message):
    predict.predict(unused, *paths, values["threshold"])
  assert sorted(tmp_path.iterdir()) == before
  assert (tmp_path / "there.jsonl").read_text() == "mine"


def test_closed_streams(tmp_path, monkeypatch):
  source = write_file(tmp_path / "in.jsonl", [{"text": "fine"}])
  for stream, paths in (("stdin", ("-", "out.jsonl")), ("stdout", (source, "-"))):
    with monkeypatch.context() as patch:
      patch.setattr(sys, stream, None)
      with pytest.raises(UserError, match=r"=-: standard .* is closed"):
        predict.check_input(*paths)


def test_a_second_call_for_the_same_output_is_refused(unused, tmp_path):
  source, output = (
    write_file(tmp_path / "in.jsonl", ['{"text": "a"}']),
    tmp_path / "o.jsonl",
  )
  with (
    lock.exclusive(output, "--output"),
    pytest.raises(
      UserError, match=f"process {os.getpid()} on .* has been writing to it"
    ),
  ):
    predict.predict(unused, source, output)
  assert not output.exists()

"""Mistakes that `ssljax.predict` names, before it scores where it can."""

import json
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax import predict
from ssljax.errors import UserError
from ssljax.inference.rows.jsonl import DEPTH
from tests.scored import HALVES, hidden, rows, without, write


def test_half_a_surrogate_pair_is_scored_and_comes_out_as_it_was(classifier, tmp_path):
  source, output = write(tmp_path / "in.jsonl", HALVES), tmp_path / "out.jsonl"
  predict.predict(classifier, source, str(output))
  found = rows(output)
  assert without(found) == list(map(json.loads, HALVES))
  assert r"\ud83d" in output.read_text()
  wanted = classifier(["calm", "harm \ufffd", ("harm", "\ufffd steal"), "harm"])
  np.testing.assert_allclose([row["score"] for row in found], wanted, atol=1e-6)


@pytest.mark.parametrize("line", HALVES[1:])
@pytest.mark.parametrize("piped", [False, True])
def test_half_a_surrogate_pair_has_no_place_in_parquet(
  unused, tmp_path, stdin, line, piped
):
  source, output = write(tmp_path / "in.jsonl", [*HALVES[:1], line]), "out.parquet"
  if piped:
    stdin((tmp_path / "in.jsonl").read_bytes())
    source = "-"
  with pytest.raises(UserError, match=r"line 2: half a surr.*--output.* in .jsonl"):
    predict.predict(unused, source, str(tmp_path / output))
  assert not hidden(tmp_path)


def nested(depth):
  return '{"text": "a", "x": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


BAD = [
  (b'{"text": 3}', "text: 3 should be a string"),
  (b'{"text": "x", "response": [1]}', "response: .* should be a string"),
  (b'{"prompt": "x"}', r"text: no such column \(others: prompt\)"),
  (b"[1]", "not a JSON object"),
  (b"{", "not valid JSON"),
  (b'{"text": "\xff"}', "not valid UTF-8"),
  (nested(DEPTH + 1).encode(), f"deeper than {DEPTH} levels"),
  (nested(990).encode(), "levels|recursion"),
  (nested(100_000).encode(), "recursion|levels"),
]


@pytest.mark.parametrize(("line", "said"), BAD)
@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
def test_a_bad_row_at_the_end_is_met_before_anything_is_scored(
  unused, tmp_path, monkeypatch, line, said, target
):
  monkeypatch.setattr(predict, "PIECE", 4)
  (tmp_path / "in.jsonl").write_bytes(b'{"text": "fine"}\n' * 40 + line + b"\n")
  with pytest.raises(UserError, match=f"in.jsonl, line 41: .*{said}"):
    predict.predict(unused, str(tmp_path / "in.jsonl"), str(tmp_path / target))
  assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(("line", "said"), BAD)
@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
def test_rows_before_a_bad_one_of_standard_input_are_kept(
  classifier, tmp_path, monkeypatch, stdin, line, said, target
):
  monkeypatch.setattr(predict, "LINE", 4)
  stdin(b'{"text": "fine"}\n' * 9 + line)
  with pytest.raises(UserError, match=f"^standard input, line 10: .*{said}") as caught:
    predict.predict(classifier, "-", str(tmp_path / target))
  (kept,) = hidden(tmp_path)
  assert kept in str(caught.value)
  assert len(rows(tmp_path / kept)) == 8
  assert not (tmp_path / target).exists()


@pytest.mark.parametrize("depth", [2, DEPTH])
def test_rows_may_be_nested(classifier, tmp_path, depth):
  source, output = write(tmp_path / "in.jsonl", [nested(depth)]), tmp_path / "o.jsonl"
  predict.predict(classifier, source, str(output))
  assert without(rows(output)) == [json.loads(nested(depth))]


@pytest.mark.parametrize(
  ("column", "target", "said"),
  [
    ("text", "out.parquet", r"row 12: .*decode.*; mend the text"),
    ("text", "out.jsonl", r"row 12: .*decode.*; mend the text"),
    ("other", "out.jsonl", r"row 12: .*decode.*ends in .parquet"),
    ("other", "out.parquet", None),
  ],
)
def test_bytes_of_parquet_that_are_no_text_are_met_first(
  classifier, tmp_path, monkeypatch, column, target, said
):
  monkeypatch.setattr(predict, "PIECE", 4)
  good = pa.array([b"calm"] * 20)
  bad = pa.array([b"calm"] * 11 + [b"\xff"] + [b"calm"] * 8)
  table = pa.table({"text": good, "other": good} | {column: bad})
  table = pa.table(
    [a.combine_chunks().view(pa.string()) for a in table.columns], table.column_names
  )
  pq.write_table(table, tmp_path / "in.parquet")
  given = str(tmp_path / "in.parquet"), str(tmp_path / target)
  if said is None:
    predict.predict(classifier, *given)
    found = pq.read_table(given[1]).column("other")
    assert found.combine_chunks().view(pa.binary()) == bad
  else:
    with pytest.raises(UserError, match=said):
      predict.check(*given)


@pytest.mark.parametrize(
  ("columns", "said"),
  [
    ({"text": [1]}, "text: a column of int64 should be one of strings"),
    ({"text": ["a"], "response": [[1]]}, "response: a column of list"),
    ({"prompt": ["a"]}, r"text: no such column \(others: prompt\)"),
  ],
)
def test_columns_of_parquet_that_are_no_texts(unused, tmp_path, columns, said):
  pq.write_table(pa.table(columns), tmp_path / "in.parquet")
  with pytest.raises(UserError, match=said):
    predict.check(str(tmp_path / "in.parquet"), str(tmp_path / "out.jsonl"))


def test_a_column_that_is_there_twice(tmp_path):
  table = pa.Table.from_arrays([pa.array(["a"])] * 3, ["text", "x", "x"])
  pq.write_table(table, tmp_path / "in.parquet")
  with pytest.raises(UserError, match="'x' is there twice"):
    predict.check(str(tmp_path / "in.parquet"), str(tmp_path / "out.jsonl"))


@pytest.mark.parametrize(
  ("more", "said"),
  [
    ({"threshold": "fpr_2%"}, "no such threshold"),
    ({"threshold": "7"}, "between 0 and 1"),
    ({"target": "there.jsonl"}, "exists"),
    ({"target": "out.csv"}, "ends in .jsonl or .parquet"),
    ({"target": "out.jsonl.gz"}, "ends in .jsonl or .parquet"),
    ({"source": "absent.jsonl"}, "no such file"),
    ({"source": "pipe.jsonl"}, "not a plain file"),
    ({"target": "there.jsonl/out.jsonl"}, "cannot be written .*name another"),
    ({"target": "/proc/none/out.jsonl"}, "cannot be written .*name another"),
    ({"target": f"{'long' * 100}.jsonl"}, "cannot be written .*name another"),
  ],
)
def test_a_mistake_is_named_and_nothing_is_written(unused, tmp_path, more, said):
  write(tmp_path / "in.jsonl", [{"text": "fine"}])
  os.mkfifo(tmp_path / "pipe.jsonl")
  (tmp_path / "there.jsonl").write_text("mine")
  before = sorted(tmp_path.iterdir())
  given = {"source": "in.jsonl", "target": "out.jsonl", "threshold": ""} | more
  paths = (str(tmp_path / given[name]) for name in ("source", "target"))
  with pytest.raises(UserError, match=said):
    predict.predict(unused, *paths, given["threshold"])
  assert sorted(tmp_path.iterdir()) == before
  assert (tmp_path / "there.jsonl").read_text() == "mine"


def test_streams_that_are_closed(tmp_path, monkeypatch):
  source = write(tmp_path / "in.jsonl", [{"text": "fine"}])
  for stream, given in (("stdin", ("-", "out.jsonl")), ("stdout", (source, "-"))):
    with monkeypatch.context() as patch:
      patch.setattr(sys, stream, None)
      with pytest.raises(UserError, match="=-: it is closed"):
        predict.check(*given)


@pytest.mark.parametrize("target", ["file/out.jsonl", "/proc/out.parquet"])
def test_an_output_that_cannot_be_written_is_met_first(tmp_path, target):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot be written"):
    predict.check("-", str(tmp_path / target))

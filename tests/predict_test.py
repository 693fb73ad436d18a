"""`ssljax.predict`: every row comes out with its types and a score."""

import importlib
import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax import SafetyClassifier
from ssljax.errors import UserError
from tests import runs
from tests.scored import (
  ADDED,
  SURROGATES,
  export_model,
  hidden_files,
  make_rows,
  read_rows,
  without_scores,
  write_file,
)

predict = importlib.import_module("ssljax.predict")  # ssljax.predict is a function


@pytest.mark.slow
@pytest.mark.parametrize("source", ["jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("target", ["jsonl", "parquet"])
def test_rows_come_out_unchanged_with_their_score(
  classifier, tmp_path, monkeypatch, source, target, capsys
):
  rows, output = make_rows(), tmp_path / f"new/folder/out.{target}"
  monkeypatch.setattr(predict, "CHUNK_SIZE", 16)  # the last one is not full
  path = write_file(tmp_path / f"in.{source}", rows)
  nonempty = [i for i in range(50) if i not in (7, 8)]
  expected = classifier([(rows[i]["text"], rows[i]["response"]) for i in nonempty])
  median = float(np.median(expected)) + 1e-7
  summary = predict.predict(classifier, path, str(output), str(median))
  result = read_rows(output)
  assert without_scores(result) == rows
  assert list(result[0]) == [*rows[0], *ADDED]
  assert result[7]["score"] is result[7]["flagged"] is result[8]["label_name"] is None
  np.testing.assert_allclose(
    [result[i]["score"] for i in nonempty], expected, atol=1e-7
  )
  for i in nonempty:
    assert result[i]["flagged"] == (result[i]["score"] >= median)
    assert result[i]["label_name"] == str(int(result[i]["flagged"]))
  assert summary == (
    f"50 rows scored, {sum(row['flagged'] is True for row in result)} flagged at "
    f"{median:.7g}, 2 without a text, 1 cut at 32 tokens"
  )
  progress = capsys.readouterr().err
  assert "checking row" in progress
  assert "scoring row 50/50" in progress
  assert not hidden_files(output.parent)


def test_texts_without_a_known_word_are_counted(classifier, tmp_path):
  texts = ["calm", "\u2603 \u2603", "\u2603 calm", "", "\u2603"]
  source = write_file(tmp_path / "in.jsonl", [{"text": text} for text in texts])
  summary = predict.predict(classifier, source, tmp_path / "out.jsonl")
  assert "1 without a text, 2 without a word that the model knows" in summary
  assert classifier.logits(texts).unreadable.tolist() == [0, 1, 0, 0, 1]


@pytest.mark.slow
def test_rows_of_several_classes_are_not_flagged(tmp_path):
  names = ("no", "yes", "maybe")
  classifier = SafetyClassifier.load(export_model(tmp_path / "model", names))
  path = write_file(tmp_path / "in.parquet", make_rows())
  summary = predict.predict(classifier, path, str(tmp_path / "out.parquet"))
  table = pq.read_table(tmp_path / "out.parquet")
  assert table.schema.field("flagged").type == pa.bool_()
  assert table.column("flagged").null_count == 50
  scored = [row for row in table.to_pylist() if row["score"] is not None]
  texts = [(row["text"], row["response"]) for row in scored]
  predicted = classifier.probabilities(texts).argmax(1)
  assert [row["label_name"] for row in scored] == [names[c] for c in predicted]
  assert summary.startswith("50 rows scored, 2 without")


def every_type():
  """(name, array of three values) for the types that Parquet can hold."""
  for name in ("int8", "uint16", "uint32", "int64", "uint64", "float16", "float32"):
    yield name, pa.array([1, None, 2], getattr(pa, name)())
  words = pa.array(["a", None, "b"])
  for name in ("large_string", "string_view", "large_binary", "binary", "binary_view"):
    yield name, words.cast(pa.binary()).cast(getattr(pa, name)())
  codes = pa.array([0, None, 1], pa.int8())
  yield "codes", pa.DictionaryArray.from_arrays(codes, ["x", "y"], ordered=True)
  for unit in ("ms", "us", "ns"):
    yield f"zone_{unit}", pa.array([1, None, 2], pa.timestamp(unit, "Europe/Berlin"))
    yield f"time_{unit}", pa.array([1, None, 2], pa.timestamp(unit))
  yield "duration", pa.array([1, None, 2], pa.duration("s"))
  yield "day", pa.array([1, None, 2], pa.date32())
  yield "decimal", pa.array([Decimal("1.25"), None, Decimal("2")], pa.decimal128(9, 2))
  yield "null", pa.nulls(3)
  yield "fixed", pa.array([b"aa", None, b"bb"], pa.binary(2))
  yield "map", pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int32()))
  inner = pa.field("a", pa.dictionary(pa.int32(), pa.string()), metadata={"in": "side"})
  nested = pa.list_(pa.struct([inner, pa.field("b", pa.float32(), nullable=False)]))
  yield "nested", pa.array([[{"a": "u", "b": 1}], None, []], nested)
  yield "pair", pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2))


def test_parquet_keeps_types_and_metadata(classifier, tmp_path, monkeypatch):
  count = 30
  arrays = {n: pa.concat_arrays([a] * 10) for n, a in every_type()}
  arrays["text"] = pa.array(["calm", "harm", "calm"] * 10).dictionary_encode()
  fields = [pa.field(n, a.type, metadata={"of": n}) for n, a in arrays.items()]
  fields.append(pa.field("must", pa.int16(), nullable=False))
  arrays["must"] = pa.array(range(count), pa.int16())
  schema = pa.schema(fields, metadata={"made": "by hand"})
  table = pa.Table.from_arrays(list(arrays.values()), schema=schema)
  source, output = tmp_path / "in.parquet", tmp_path / "a=b/out.parquet"
  pq.write_table(table, source, row_group_size=7)
  monkeypatch.setattr(predict, "CHUNK_SIZE", 4)
  predict.predict(classifier, str(source), str(output))
  before, after = pq.ParquetFile(source), pq.ParquetFile(output)
  assert after.schema_arrow.names[-3:] == list(ADDED)
  assert [after.schema_arrow.field(name).type for name in ADDED] == [*ADDED.values()]
  kept = pa.schema(list(after.schema_arrow)[:-3], after.schema_arrow.metadata)
  assert kept.equals(before.schema_arrow, check_metadata=True)
  old, new = (
    [
      row
      for g in range(file.num_row_groups)
      for row in file.read_row_group(g).to_pylist()
    ]
    for file in (before, after)
  )
  assert without_scores(new) == old


@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("source", ["in.jsonl", "in.jsonl.gz", "in.parquet", "-"])
def test_an_input_without_rows_gives_an_output_without_rows(
  unused, tmp_path, monkeypatch, stdin, source, target
):
  monkeypatch.setattr(type(unused), "logits", lambda *_: pytest.fail("scored"))
  stdin(b"\n")
  if source == "in.parquet":
    pq.write_table(
      pa.table({"text": pa.array([], pa.large_string())}), tmp_path / source
    )
  elif source != "-":
    write_file(tmp_path / source, ["", "  "])
  source = source if source == "-" else str(tmp_path / source)
  summary = predict.predict(unused, source, str(tmp_path / target))
  assert summary == "0 rows scored, 0 flagged at 0.5"
  assert read_rows(tmp_path / target) == []
  if target == "out.parquet":
    schema = pq.read_schema(tmp_path / target)
    assert schema.names == ["text", *ADDED]
    assert schema.types[1:] == [*ADDED.values()]
    dtype = pa.large_string() if source.endswith(".parquet") else pa.string()
    assert schema.field("text").type == dtype


@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet", "-"])
def test_input_columns_with_the_names_of_added_ones_are_renamed(
  classifier, tmp_path, stdin, source, target
):
  rows = [{"score": 3, "text": "calm", "label_name": "x"}] * 2
  if source == "-":
    stdin("\n".join(map(json.dumps, rows)).encode())
  else:
    source = write_file(tmp_path / source, rows)
  summary = predict.predict(classifier, source, str(tmp_path / target))
  assert summary.endswith(
    "; renamed input columns: score to input_score, label_name to input_label_name"
  )
  for row in read_rows(tmp_path / target):
    assert list(row) == ["input_score", "text", "input_label_name", *ADDED]
    assert (row["input_score"], row["input_label_name"]) == (3, "x")
    assert row["label_name"] in ("0", "1")


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet"])
def test_an_input_column_that_can_not_be_renamed_is_an_error(unused, tmp_path, source):
  rows = [{"text": "a", "score": 1, "input_score": 2}]
  if source == "in.jsonl":  # the columns may be in different rows
    rows = [{"text": "a", "score": 1}, {"text": "b", "input_score": 2}]
  path = write_file(tmp_path / source, rows)
  with pytest.raises(UserError, match="score would be written as input_score, which"):
    predict.check_input(path, str(tmp_path / "out.jsonl"))


# JSON rows in Parquet.


@pytest.mark.parametrize("piped", [False, True])
def test_column_types_hold_all_rows(classifier, tmp_path, monkeypatch, stdin, piped):
  rows = [
    {"text": "calm", "x": None, "deep": []},
    {"text": None, "x": None, "deep": [None], "y": 1},
    {"text": "harm", "x": [2], "deep": [{"a": None}], "y": 0.5},
    {"text": "harm", "x": [], "deep": [{"a": 1, "b": "c"}], "late": True},
  ]
  monkeypatch.setattr(predict, "CHUNK_SIZE", 1)
  source = write_file(tmp_path / "in.jsonl", rows)
  output = tmp_path / "OUT.PARQUET"
  if piped:
    stdin((tmp_path / "in.jsonl").read_bytes())
    source = "-"
  predict.predict(classifier, source, str(output))
  schema = pq.read_schema(output)
  deep = pa.struct([("a", pa.int64()), ("b", pa.string())])
  assert schema.field("x").type.value_type == pa.int64()
  assert schema.field("deep").type.value_type == deep
  assert schema.names == ["text", "x", "deep", "y", "late", *ADDED]
  result = read_rows(output)
  assert [row["x"] for row in result] == [None, None, [2], []]
  assert [row["y"] for row in result] == [None, 1.0, 0.5, None]
  assert [row["late"] for row in result] == [None, None, None, True]
  assert result[3]["deep"] == [{"a": 1, "b": "c"}]
  assert not hidden_files(tmp_path)


@pytest.mark.parametrize(
  ("values", "reason"),
  [
    ([1, "one"], "x"),
    ([2**60 + 1, 0.5], "outside of the range"),
    ([2**63, 1], "too large"),
    ([{}, 1], "x"),
    ([{}, {}], "no child field"),
    ([json.loads("[" * 60 + "]" * 60)] * 2, "too deeply nested"),
  ],
)
@pytest.mark.parametrize("chunk_size", [1, 8])
def test_values_that_parquet_can_not_hold_are_reported_before_scoring(
  classifier, tmp_path, monkeypatch, values, reason, chunk_size
):
  monkeypatch.setattr(predict, "CHUNK_SIZE", chunk_size)
  rows = [{"text": "a", "x": value} for value in values]
  source = write_file(tmp_path / "in.jsonl", rows)
  with pytest.raises(
    UserError, match=rf"have no Parquet type .*{reason}.* ends in .jsonl"
  ):
    predict.check_input(source, str(tmp_path / "out.parquet"))
  predict.predict(classifier, source, str(tmp_path / "out.jsonl"))
  assert without_scores(read_rows(tmp_path / "out.jsonl")) == rows


def test_types_that_json_lacks_are_written_as_text(classifier, tmp_path):
  day = pa.array([3], pa.timestamp("ns"))
  table = pa.table({"text": ["a"], "day": day, "key": [b"a\xff"]})
  pq.write_table(table, tmp_path / "in.parquet")
  output = tmp_path / "day.jsonl"
  predict.predict(classifier, str(tmp_path / "in.parquet"), str(output))
  row = read_rows(output)[0]
  assert row["day"].startswith("1970-01-01")
  assert row["key"] == r"a\xff"


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_nan_is_written_as_null(classifier, tmp_path, suffix):
  rows = [{"text": "a", "x": float("nan"), "y": {"z": [float("-inf"), 1.0]}}]
  source, output = write_file(tmp_path / f"in{suffix}", rows), tmp_path / "out.jsonl"
  predict.predict(classifier, source, str(output))

  def fail(constant):
    pytest.fail(f"{constant} is not JSON")

  row = json.loads(output.read_text(), parse_constant=fail)
  assert (row["x"], row["y"]) == (None, {"z": [None, 1.0]})


# The command.


def test_the_command_reports_an_error_in_one_line(model, tmp_path):
  rows = map(json.dumps, make_rows(11)[:5])
  lines = [*rows, "", SURROGATES[1], '{"text": "ä"}', '{"text":']
  source = write_file(tmp_path / "in.jsonl", lines)
  process = runs.command(
    "ssljax.predict",
    *(f"--model={model}", f"--input={source}", "--output=-"),
    env=runs.environment(tmp_path),
  )
  assert process.returncode == 2
  assert process.stdout == ""
  assert process.stderr.startswith(f"error: {source}, line 9: not valid JSON")
  assert process.stderr.count("\n") == 1


def test_rows_go_to_standard_output_chunk_by_chunk(
  classifier, tmp_path, monkeypatch, capfdbinary, stdin
):
  monkeypatch.setattr(predict, "STREAM_CHUNK_SIZE", 2)
  stdin("\n".join([*SURROGATES, '{"text": "ä"}', '{"text":']).encode())
  expected = list(map(json.loads, SURROGATES))
  printed, logits = [], classifier.logits
  with monkeypatch.context() as patch:
    patch.setattr(
      classifier,
      "logits",
      lambda *texts: printed.append(capfdbinary.readouterr().out) or logits(*texts),
    )
    with pytest.raises(UserError, match="line 6"):
      predict.predict(classifier, "-", "-")
  rows = [json.loads(line) for output in printed for line in output.splitlines()]
  assert without_scores(rows) == expected[:2]  # before the second chunk is scored
  rows = map(json.loads, capfdbinary.readouterr().out.splitlines())
  assert without_scores(rows) == expected[2:]
  path = write_file(tmp_path / "in.parquet", make_rows())
  summary = predict.predict(classifier, path, "-")
  printed = capfdbinary.readouterr()
  rows = map(json.loads, printed.out.splitlines())
  assert without_scores(rows) == make_rows()
  assert summary.startswith("50 rows")
  assert b"scoring row 50/50" in printed.err

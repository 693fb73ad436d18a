"""Files scored by `ssljax.predict`: each row comes out, with its types and a score."""

import json
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax import SafetyClassifier, predict
from ssljax.errors import UserError
from tests import runs
from tests.runs import ROOT
from tests.scored import (
  ADDED,
  HALVES,
  export_model,
  hidden,
  rows,
  texts,
  without,
  write,
)


@pytest.mark.parametrize("source", ["jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("target", ["jsonl", "parquet"])
def test_rows_come_out_as_they_went_in_with_their_score(
  classifier, tmp_path, monkeypatch, source, target, capsys
):
  given, output = texts(), tmp_path / f"new/folder/out.{target}"
  monkeypatch.setattr(predict, "PIECE", 16)  # the last one is not full
  path = write(tmp_path / f"in.{source}", given)
  full = [i for i in range(50) if i not in (7, 8)]
  wanted = classifier([(given[i]["text"], given[i]["response"]) for i in full])
  middle = float(np.median(wanted)) + 1e-7
  said = predict.predict(classifier, path, str(output), str(middle))
  found = rows(output)
  assert without(found) == given
  assert list(found[0]) == [*given[0], *ADDED]
  assert found[7]["score"] is found[7]["flagged"] is found[8]["label_name"] is None
  np.testing.assert_allclose([found[i]["score"] for i in full], wanted, atol=1e-7)
  for i in full:
    assert found[i]["flagged"] == (found[i]["score"] >= middle)
    assert found[i]["label_name"] == str(int(found[i]["flagged"]))
  assert said == (
    f"50 rows scored, {sum(row['flagged'] is True for row in found)} flagged at "
    f"{middle:.7g}, 2 without a text, "
    "1 cut at 32 tokens"
  )
  shown = capsys.readouterr().err
  assert "50/50" in shown
  assert "row/s" in shown
  assert not hidden(output.parent)


def test_several_classes_have_no_flag_without_a_threshold(tmp_path):
  names = ("no", "yes", "maybe")
  classifier = SafetyClassifier.load(export_model(tmp_path / "model", names))
  path = write(tmp_path / "in.parquet", texts())
  said = predict.predict(classifier, path, str(tmp_path / "out.parquet"))
  found = pq.read_table(tmp_path / "out.parquet")
  assert found.schema.field("flagged").type == pa.bool_()
  assert found.column("flagged").null_count == 50
  full = [row for row in found.to_pylist() if row["score"] is not None]
  each = classifier.probabilities([(row["text"], row["response"]) for row in full])
  assert [row["label_name"] for row in full] == [names[c] for c in each.argmax(1)]
  assert said.startswith("50 rows scored, 2 without")


def every_type():
  """(name, array of three) of what Parquet can hold."""
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


def test_parquet_keeps_every_type_and_what_is_said_of_a_column(
  classifier, tmp_path, monkeypatch
):
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
  monkeypatch.setattr(predict, "PIECE", 4)
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
  assert without(new) == old


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
    write(tmp_path / source, ["", "  "])
  source = source if source == "-" else str(tmp_path / source)
  said = predict.predict(unused, source, str(tmp_path / target))
  assert said == "0 rows scored, 0 flagged at 0.5"
  assert rows(tmp_path / target) == []
  if target == "out.parquet":
    schema = pq.read_schema(tmp_path / target)
    assert schema.names == ["text", *ADDED]
    assert schema.types[1:] == [*ADDED.values()]
    kind = pa.large_string() if source.endswith(".parquet") else pa.string()
    assert schema.field("text").type == kind


@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet", "-"])
def test_the_inputs_own_columns_of_our_names_are_kept_under_others(
  classifier, tmp_path, stdin, source, target
):
  given = [{"score": 3, "text": "calm", "label_name": "x"}] * 2
  if source == "-":
    stdin("\n".join(map(json.dumps, given)).encode())
  else:
    source = write(tmp_path / source, given)
  said = predict.predict(classifier, source, str(tmp_path / target))
  assert said.endswith(
    "; the input's own score is input_score, label_name is input_label_name"
  )
  for row in rows(tmp_path / target):
    assert list(row) == ["input_score", "text", "input_label_name", *ADDED]
    assert (row["input_score"], row["input_label_name"]) == (3, "x")
    assert row["label_name"] in ("0", "1")


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet"])
def test_own_columns_that_have_no_other_name_left_are_a_mistake(
  unused, tmp_path, source
):
  given = [{"text": "a", "score": 1, "input_score": 2}]
  if source == "in.jsonl":  # in rows that are far apart, too
    given = [{"text": "a", "score": 1}, {"text": "b", "input_score": 2}]
  with pytest.raises(UserError, match="score comes out as input_score, which is there"):
    predict.check(write(tmp_path / source, given), str(tmp_path / "out.jsonl"))


# Rows of JSON in Parquet.


@pytest.mark.parametrize("piped", [False, True])
def test_types_of_later_rows_hold_for_all(
  classifier, tmp_path, monkeypatch, stdin, piped
):
  given = [
    {"text": "calm", "x": None, "deep": []},
    {"text": None, "x": None, "deep": [None], "y": 1},
    {"text": "harm", "x": [2], "deep": [{"a": None}], "y": 0.5},
    {"text": "harm", "x": [], "deep": [{"a": 1, "b": "c"}], "late": True},
  ]
  monkeypatch.setattr(predict, "PIECE", 1)
  monkeypatch.setattr(predict, "LINE", 1)
  source, output = write(tmp_path / "in.jsonl", given), tmp_path / "OUT.PARQUET"
  if piped:
    stdin((tmp_path / "in.jsonl").read_bytes())
    source = "-"
  predict.predict(classifier, source, str(output))
  schema = pq.read_schema(output)
  deep = pa.struct([("a", pa.int64()), ("b", pa.string())])
  assert schema.field("x").type.value_type == pa.int64()
  assert schema.field("deep").type.value_type == deep
  assert schema.names == ["text", "x", "deep", "y", "late", *ADDED]
  found = rows(output)
  assert [row["x"] for row in found] == [None, None, [2], []]
  assert [row["y"] for row in found] == [None, 1.0, 0.5, None]
  assert [row["late"] for row in found] == [None, None, None, True]
  assert found[3]["deep"] == [{"a": 1, "b": "c"}]
  assert not hidden(tmp_path)


@pytest.mark.parametrize(
  ("values", "said"),
  [
    ([1, "one"], "x"),
    ([2**60 + 1, 0.5], "outside of the range"),
    ([2**63, 1], "too large"),
    ([{}, 1], "x"),
    ([{}, {}], "no child field"),
    ([json.loads("[" * 60 + "]" * 60)] * 2, "too deeply nested"),
  ],
)
@pytest.mark.parametrize("piece", [1, 8])
def test_what_parquet_cannot_hold_is_said_before_scoring_and_jsonl_takes_it(
  classifier, tmp_path, monkeypatch, values, said, piece
):
  monkeypatch.setattr(predict, "PIECE", piece)
  given = [{"text": "a", "x": value} for value in values]
  source = write(tmp_path / "in.jsonl", given)
  with pytest.raises(
    UserError, match=rf"have no Parquet type .*{said}.* ends in .jsonl"
  ):
    predict.check(source, str(tmp_path / "out.parquet"))
  predict.predict(classifier, source, str(tmp_path / "out.jsonl"))
  assert without(rows(tmp_path / "out.jsonl")) == given


def test_what_json_has_no_word_for_is_written_as_text(classifier, tmp_path):
  day = pa.table({"text": ["a"], "day": pa.array([3], pa.timestamp("ns"))})
  pq.write_table(day, tmp_path / "in.parquet")
  output = tmp_path / "day.jsonl"
  predict.predict(classifier, str(tmp_path / "in.parquet"), str(output))
  assert rows(output)[0]["day"].startswith("1970-01-01")


# The command.


def command(place, *given, text=None):
  return subprocess.run(
    [sys.executable, "-m", "ssljax.predict", *map(str, given)],
    cwd=ROOT,
    env=runs.environment(place),
    input=text,
    capture_output=True,
  )


def test_the_command_from_standard_input_to_standard_output(model, tmp_path):
  given = [*map(json.dumps, texts(11)[:5]), "", HALVES[1], '{"text": "ä"}', '{"text":']
  text = "\n".join(given).encode()
  done = command(tmp_path, f"--model={model}", "--input=-", "--output=-", text=text)
  assert done.returncode == 2
  assert done.stdout == b""  # less than a piece of LINE
  said = done.stderr.decode()
  assert said.startswith("error: standard input, line 9: not valid JSON")
  assert said.count("\n") == 1


def test_rows_go_to_standard_output_piece_by_piece(
  classifier, tmp_path, monkeypatch, capfdbinary, stdin
):
  monkeypatch.setattr(predict, "LINE", 2)
  given = [*HALVES, '{"text": "ä"}', '{"text":']
  stdin("\n".join(given).encode())
  out, logits = [], classifier.logits
  with monkeypatch.context() as patch:
    patch.setattr(
      classifier,
      "logits",
      lambda some: out.append(capfdbinary.readouterr().out) or logits(some),
    )
    with pytest.raises(UserError, match="line 6"):
      predict.predict(classifier, "-", "-")
  found = [json.loads(line) for some in out for line in some.splitlines()]
  assert without(found) == list(map(json.loads, HALVES[:2]))  # before the next is done
  found = list(map(json.loads, capfdbinary.readouterr().out.splitlines()))
  assert without(found) == list(map(json.loads, HALVES[2:]))
  said = predict.predict(classifier, write(tmp_path / "in.parquet", texts()), "-")
  shown = capfdbinary.readouterr()
  assert without(map(json.loads, shown.out.splitlines())) == texts()
  assert said.startswith("50 rows")
  assert b"row/s" in shown.err

"""Errors in a file of records are one line: file, row, column, value and remedy."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.data.records import schema
from ssljax.data.records.read import read_file
from ssljax.data.sources import build, hub
from ssljax.errors import UserError

GOOD = '{"text": "fine", "label": 0}'


def failure(path):
  with pytest.raises(UserError) as error:
    read_file(path)
  message = str(error.value)
  assert "\n" not in message
  assert message.startswith(str(path))
  return message.removeprefix(str(path))


@pytest.mark.parametrize(
  ("line", "words"),
  [
    ('{"text": "x", "label": 1', ["not valid JSON", "one JSON object per line"]),
    ("[1, 2]", ["not a JSON object", "[1, 2]"]),
    ('{"text": 5, "label": 0}', ["text is 5, but should be a string"]),
    ('{"text": ["x"], "label": 0}', ["text is ['x'], but should be a string"]),
    ('{"text": "", "label": 0}', ["text is empty ('')", "remove the row"]),
    ('{"text": " \\n ", "label": 0}', ["text is empty"]),
    ('{"text": null, "label": 0}', ["text is empty (None)"]),
    ('{"label": 0}', ["text is empty"]),
    ('{"text": "x", "label": -1}', ["label -1 is not a class id", "null in train"]),
    ('{"text": "x", "label": true}', ["label True is not a class id"]),
    ('{"text": "x", "label": 1.5}', ["label 1.5 is not a class id"]),
    ('{"text": "x", "label": NaN}', ["label nan is not a class id"]),
    ('{"text": "x", "label": 0, "label": 1}', ["the row has the key 'label' twice"]),
    ('{"text": "x", "views": [{"kind": 1, "kind": 2}]}', ["key 'kind' twice"]),
    ('{"text": "x", "label": "1"}', ["label '1' is not a class id"]),
    ('{"text": "x", "label": [0, 1]}', ["label [0, 1] lists several", "two-class"]),
    ('{"text": "x", "label": "bad"}', ["label 'bad'", "--labels="]),
    ('{"text": "x", "label": 99999999999}', ["label 99999999999 is not a class id"]),
    ('{"text": "x", "label_name": "rude"}', ["label is missing", "'rude'"]),
    ('{"text": "x", "response": 1}', ["response is 1, but should be a string"]),
    ('{"text": "x", "source": {}}', ["source is {}, but should be a string"]),
    ('{"text": "x", "id": 1.5}', ["id is 1.5, but should be a string"]),
    ('{"text": "x", "views": "llm"}', ["views is 'llm', but should be a list of"]),
    (
      '{"text": "x", "views": [1]}',
      ["views is [1], but should be a list of"],
    ),
    ('{"text": "x", "views": [{"kind": "llm"}]}', ["views: a view has no text"]),
    ('{"text": "x", "views": [{"text": "y"}]}', ["views: a view has no kind"]),
    ('{"text": "x\\ud800"}', ["text contains half a surrogate pair", "\\ud800"]),
  ],
)
def test_jsonl(tmp_path, line, words):
  path = tmp_path / "rows.jsonl"
  path.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n", encoding="utf-8")
  message = failure(path)
  assert message.startswith(", line 3: ")
  for word in words:
    assert word in message


@pytest.mark.parametrize(
  ("cells", "words"),
  [
    (",0", ["text is empty ('')"]),
    ("x,-1", ["label -1 is not a class id"]),
    ("x,1.5", ["label 1.5 is not a class id"]),
    ("x,True", ["label 'True' is not a class id"]),
    ("x,nan", ["label 'nan' is not a class id"]),
    ("x,0_1", ["label '0_1' is not a class id"]),
    ("x,\u0661", ["label '\u0661' is not a class id"]),  # an Arabic 1
    ("x,yes", ["label 'yes' is not a class id"]),
    ("x,0,more", ["3 cells, but the header has 2"]),
    ("x", ["1 cells, but the header has 2"]),
    ('"x"y,0', ["not valid CSV"]),
    ('"x,0', ["not valid CSV"]),
  ],
)
def test_csv(tmp_path, cells, words):
  path = tmp_path / "rows.csv"
  rows = f'text,label\n"two\nlines",1\n{cells}\nx,0\n'
  path.write_text(rows, encoding="utf-8")
  message = failure(path)
  assert message.startswith(", line 4: ")
  for word in words:
    assert word in message


@pytest.mark.parametrize("cell", ["1", " 1 ", "+1", "1.0", "1.", "1e0", "01"])
def test_numbers_in_csv(tmp_path, cell):
  path = tmp_path / "rows.csv"
  path.write_text(f"text,label\nx,{cell}\n")
  assert read_file(path).label.tolist() == [1]


def test_tabs_separate_the_cells_of_tsv(tmp_path):
  path = tmp_path / "rows.tsv"
  path.write_text('text\tlabel\n"a, ""b""\n\tc"\t1\nplain, text\t\n')
  records = read_file(path)
  assert records.column("text") == ['a, "b"\n\tc', "plain, text"]
  assert records.label.tolist() == [1, -1]


@pytest.mark.parametrize(
  ("name", "header"), [("rows.csv", "text;label\tid"), ("rows.tsv", "text,label")]
)
def test_an_unknown_separator(tmp_path, name, header):
  path = tmp_path / name
  path.write_text(f"{header}\nx,0\n")
  assert ", line 1: cannot tell what separates the columns" in failure(path)


def test_utf_16(tmp_path):
  path = tmp_path / "rows.tsv"
  path.write_text("text\tlabel\nx\t0\n", encoding="utf-16")
  assert ", line 1: the file is UTF-16" in failure(path)


@pytest.mark.parametrize(
  ("column", "values", "words"),
  [
    ("text", pa.array([None, 1, 2]), [", row 2", "text is 1", "a string"]),
    ("text", pa.array(["x", "x", ""]), [", row 3", "text is empty"]),
    ("label", pa.array([0.0, 1.0, 0.5]), [", row 3", "label 0.5"]),
    ("label", pa.array([0, 1, -3]), [", row 3", "label -3"]),
    ("label", pa.array([True, False, True]), [", row 1", "label True"]),
    ("label", pa.array([None, None, "a"]), [", row 3", "label 'a'"]),
    ("views", pa.array(["x", "y", "z"]), [", row 1", "views is 'x'"]),
    ("id", pa.array([1.5, 2.5, 3.5]), [", row 1", "id is 1.5"]),
    ("id", pa.array(["p", "q", "p"]), [", row 3", "id 'p'", "row 1"]),
  ],
)
def test_parquet(tmp_path, column, values, words):
  path = tmp_path / "rows.parquet"
  table = {"text": pa.array(["x", "y", "z"]), column: values}
  pq.write_table(pa.table(table), path)
  message = failure(path)
  for word in words:
    assert word in message


def test_parquet_with_a_column_twice(tmp_path):
  path = tmp_path / "rows.parquet"
  texts, labels = pa.array(["x", "y"]), pa.array([0, 1])
  columns = [texts, labels, pa.array([1, 0])]
  pq.write_table(pa.table(columns, ["text", "label", "label"]), path)
  assert failure(path) == ": two columns are named 'label'; rename one of them"
  with pytest.raises(UserError, match="two columns are named 'label'"):
    build.build_from_files(str(path), tmp_path / "out", {})
  views = pa.StructArray.from_arrays([texts] * 3, ["kind", "text", "text"])
  views = pa.ListArray.from_arrays([0, 1, 2], views)
  pq.write_table(pa.table([texts, views], ["text", "views"]), path)
  assert failure(path).startswith(": two fields of views are named 'text'")
  pairs = pa.FixedSizeListArray.from_arrays(views.values, 1)
  maps = pa.MapArray.from_arrays([0, 1, 2], texts, views.values[:2])
  for nested in (pairs.cast(pa.list_(views.type.value_type, 1)), maps):
    pq.write_table(pa.table([texts, nested[:2]], ["text", "x"]), path)
    with pytest.raises(UserError, match="two fields of x are named 'text'"):
      build.build_from_files(str(path), tmp_path / "out", {})


def test_float16_labels(tmp_path):
  path = tmp_path / "rows.parquet"
  label = pa.array(np.array([0, 1], np.float16))
  pq.write_table(pa.table({"text": ["x", "y"], "label": label}), path)
  assert read_file(path).label.tolist() == [0, 1]
  # Some versions of pyarrow return float16 values as NumPy scalars.
  values = schema.to_column("label", list(np.array([0, 1], np.float16)), str)
  assert values.to_pylist() == [0, 1]
  with pytest.raises(UserError, match="is not a class id"):
    schema.to_column("label", [np.float16(0.5)], str)


def test_parquet_with_invalid_utf8(tmp_path):
  path = tmp_path / "rows.parquet"
  bad = pa.array([b"fine", b"\xff\xfe"]).view(pa.string())
  pq.write_table(pa.table({"text": bad}), path)
  assert failure(path).startswith(", row 2: text cannot be read ('utf-8'")


DATE = pa.array([0, 3_000_000], pa.date32())  # the year 10183


@pytest.mark.parametrize("column", ["text", "label", "created"])
def test_parquet_with_a_date_that_python_cannot_hold(tmp_path, column):
  path, expected = tmp_path / "rows.parquet", f"row 2: {column} cannot be read"
  texts = pa.array(["a", "b"])
  pq.write_table(pa.table({"text": texts} | {column: DATE}), path)
  with pytest.raises(UserError, match=expected):
    build.build_from_files(str(path), tmp_path / "out", {})
  if column != "created":  # training doesn't read other columns
    assert expected in failure(path)


def test_a_hub_dataset_with_a_date_that_python_cannot_hold():
  table = pa.table({"text": ["a", "b"], "created": DATE})
  with pytest.raises(UserError, match="made/up test, row 4: created cannot be read"):
    list(hub._rows("made/up test", [table.slice(0, 1), table.slice(0, 1), table]))


def test_invalid_utf8_reports_the_line(tmp_path):
  for name in ("rows.jsonl", "rows.csv"):
    path = tmp_path / name
    head = GOOD if name.endswith("l") else "text,label"
    path.write_bytes(head.encode() + b"\n" + b'{"text": "caf' + b"\xe9\n")
    message = failure(path)
    assert message.startswith(", line 2: not valid UTF-8 (byte 0xe9 at position 14)")


def test_byte_order_mark_is_ignored(tmp_path):
  path = tmp_path / "rows.csv"
  path.write_bytes("text,label\nfine,0\n".encode("utf-8-sig"))
  assert read_file(path).column("text") == ["fine"]


def test_unreadable_files(tmp_path):
  assert "no such file" in failure(tmp_path / "absent.jsonl")
  folder = tmp_path / "folder.csv"
  folder.mkdir()
  assert "is a folder" in failure(folder)
  other = tmp_path / "rows.xlsx"
  other.write_text("x")
  assert "unknown format" in failure(other)
  whole = gzip.compress((GOOD + "\n").encode() * 1000)
  for name, content in {
    "cut.jsonl.gz": whole[: len(whole) // 2],
    "plain.jsonl.gz": GOOD.encode(),
    "text.parquet": b"no parquet at all",
    "empty.parquet": b"",
  }.items():
    path = tmp_path / name
    path.write_bytes(content)
    assert "cannot be read" in failure(path)


def test_parquet_without_checksums_is_read(tmp_path):
  path = tmp_path / "rows.parquet"
  pq.write_table(pa.table({"text": ["a"], "label": [1]}), path)
  assert read_file(path).column("text") == ["a"]


def test_missing_text_column(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text('{"prompt": "x", "label": 0}\n')
  message = failure(path)
  assert message.startswith(", line 1: no column 'text'")
  assert "prompt" in message
  assert "--columns=text=NAME" in message


def test_duplicate_column_in_header(tmp_path):
  path = tmp_path / "rows.csv"
  path.write_text("text,label,text\nx,0,y\n")
  assert failure(path).startswith(", line 1: the header has column 'text' twice")


def test_duplicate_ids_report_both_rows(tmp_path):
  path = tmp_path / "rows.jsonl"
  rows = [{"id": name, "text": "x"} for name in ("a", "b", "c", "b")]
  path.write_text("\n".join(map(json.dumps, rows)))
  message = failure(path)
  assert message.startswith(", line 4: id 'b' already occurs in")
  assert f"{path}, line 2" in message


def test_long_values_are_truncated(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text(json.dumps({"text": "x", "label": "y" * 5000}))
  assert len(failure(path)) < 300

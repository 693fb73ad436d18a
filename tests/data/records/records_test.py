"""All formats give the same records, and writing then reading changes nothing."""

import csv
import gzip
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.data.records import files, records, schema
from ssljax.data.records.read import read_file, read_with_ignored
from ssljax.data.records.schema import SCHEMA

ROWS = [
  {"id": "a", "text": "How do I bake bread?", "label": 0, "label_name": "fine"},
  {"id": "b", "text": 'He said "go",\nthen, left', "label": 1, "label_name": "rude"},
  {"id": "c", "text": "NA", "response": "null", "category": "None"},
  {"id": "d", "text": "007", "response": "1.0", "label": 0, "source": "made"},
  {"id": "e", "text": " ünïcödé — 文字 ", "label": 1},
]
COLUMNS = [name for name in SCHEMA.names if name != "views"]


def write_jsonl(path, rows, opened=open):
  with opened(path, "wt", encoding="utf-8") as file:
    for row in rows:
      file.write(json.dumps(row, ensure_ascii=False) + "\n")
  return path


def write_csv(path, rows, columns=COLUMNS, opened=open):
  with opened(path, "wt", encoding="utf-8", newline="") as file:
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    writer.writerows(rows)
  return path


def write_pandas_like(path, rows):
  """Parquet with float labels, as pandas writes it if labels are missing."""
  full = [{name: row.get(name) for name in COLUMNS} for row in rows]
  arrays = {name: [row[name] for row in full] for name in COLUMNS}
  table = pa.table(
    {
      name: pa.array(
        [float("nan") if v is None else float(v) for v in values], pa.float64()
      )
      if name == "label"
      else pa.array(values, pa.string())
      for name, values in arrays.items()
    }
  )
  pq.write_table(table, path)
  return path


def test_formats_agree(tmp_path):
  paths = [
    write_jsonl(tmp_path / "rows.jsonl", ROWS),
    write_jsonl(tmp_path / "rows.json", ROWS),
    write_jsonl(tmp_path / "rows.jsonl.gz", ROWS, gzip.open),
    write_csv(tmp_path / "rows.csv", ROWS),
    write_csv(tmp_path / "rows.csv.gz", ROWS, opened=gzip.open),
    write_pandas_like(tmp_path / "rows.parquet", ROWS),
  ]
  first, *others = [read_file(path) for path in paths]
  assert first.table.schema == SCHEMA
  assert first.column("text") == [row["text"] for row in ROWS]
  assert first.column("response") == [None, None, "null", "1.0", None]
  assert first.label.tolist() == [0, 1, -1, 0, 1]
  assert first.column("source") == ["rows", "rows", "rows", "made", "rows"]
  for other in others:
    assert other == first


def test_missing_columns_are_filled_identically(tmp_path):
  rows = [{"text": f"text {i}", "label": i % 2} for i in range(3)]
  jsonl = read_file(write_jsonl(tmp_path / "some.jsonl", rows))
  csv_ = read_file(write_csv(tmp_path / "some.csv", rows, ["text", "label"]))
  assert jsonl == csv_
  assert jsonl.column("id") == ["some:1", "some:2", "some:3"]
  assert jsonl.column("views") == [None] * 3


def test_ids_are_kept_in_any_order(tmp_path):
  here = read_file(write_jsonl(tmp_path / "here.jsonl", ROWS))
  there = read_file(write_jsonl(tmp_path / "there.jsonl", ROWS[::-1]))
  pairs = lambda r: dict(zip(r.column("id"), r.column("text"), strict=True))
  assert pairs(here) == pairs(there)
  numbers = [{"id": 7, "text": "x", "label": 0}]
  assert read_file(write_jsonl(tmp_path / "n.jsonl", numbers)).column("id") == ["7"]


def test_write_then_read(tmp_path):
  view = {"kind": "llm", "text": "Bread: how?", "response": None, "origin": "hand"}
  rows = [{**ROWS[0], "views": [view, {**view, "kind": "eda"}]}, *ROWS[1:]]
  before = read_file(write_jsonl(tmp_path / "rows.jsonl", rows))
  assert before.column("views")[0][0] == view
  records.write_parquet(before, tmp_path / "rows.parquet")
  assert read_file(tmp_path / "rows.parquet") == before
  assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.jsonl", "rows.parquet"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
  rows = read_file(write_jsonl(tmp_path / "rows.jsonl", ROWS))

  def fail(*_):
    raise OSError("interrupted")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="interrupted"):
    records.write_parquet(rows, tmp_path / "rows.parquet")
  assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
  old = read_file(write_jsonl(tmp_path / "rows.jsonl", ROWS))
  records.write_parquet(old, tmp_path / "rows.parquet")
  before = (tmp_path / "rows.parquet").read_bytes()

  def half(table, path, **_):
    with open(path, "wb") as file:
      file.write(b"PAR1 and no more")
    raise OSError("no space left")

  monkeypatch.setattr(pq, "write_table", half)
  with pytest.raises(OSError, match="no space"):
    records.write_parquet(old.take(np.array([0])), tmp_path / "rows.parquet")
  assert (tmp_path / "rows.parquet").read_bytes() == before
  assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.jsonl", "rows.parquet"]


def test_unknown_columns_are_ignored_and_listed(tmp_path):
  rows = [{"text": "one", "label": 0, "url": "x"}, {"text": "two", "score": 2.5}]
  records_, ignored = read_with_ignored(write_jsonl(tmp_path / "rows.jsonl", rows))
  assert ignored == ("url", "score")
  assert records_.table.schema == SCHEMA


def test_extra_columns_of_bytes_are_text(tmp_path):
  path = tmp_path / "rows.parquet"
  columns = {"text": ["x", "y"], "tongue": [b"en", b"d\xe9"], "turn": [1, None]}
  pq.write_table(pa.table(columns), path)
  assert schema.read_extra_columns(path, ["tongue", "turn"]) == {
    "tongue": ["en", r"d\xe9"],
    "turn": [1, None],
  }


def test_locations_are_lines_of_the_file(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text('{"text": "one"}\n\n\n{"text": "two"}\n')
  assert read_file(path).location(1) == f"{path}, line 4"
  path = write_csv(tmp_path / "rows.csv", ROWS)
  assert read_file(path).location(2) == f"{path}, line 5"  # row 2 holds a newline


def test_long_cells_of_csv(tmp_path):
  text = "word, " * 50_000
  path = write_csv(tmp_path / "rows.csv", [{"text": text}], ["text"])
  assert read_file(path).column("text") == [text]


def test_take_and_concat_keep_locations(tmp_path):
  first = read_file(write_jsonl(tmp_path / "one.jsonl", ROWS))
  second = read_file(
    write_jsonl(tmp_path / "two.jsonl", [{"text": "x"}, {"text": "y"}])
  )
  both = records.concat([first, second])
  assert len(both) == 7
  assert both.location(6) == f"{tmp_path / 'two.jsonl'}, line 2"
  assert both.take(np.array([6, 0])).location(0) == both.location(6)


def test_more_rows_than_one_batch(tmp_path, monkeypatch):
  rows = [{"text": f"text {i}"} for i in range(10)]
  rows[7]["category"] = "late"  # a column that only a later batch has
  path = write_jsonl(tmp_path / "rows.jsonl", rows)
  whole = read_file(path)
  monkeypatch.setattr(files, "BATCH", 3)
  assert read_file(path) == whole
  assert whole.column("category")[7] == "late"

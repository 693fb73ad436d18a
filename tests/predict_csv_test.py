"""`ssljax.predict` with CSV and TSV: the cells of a row stay as they are."""

import csv
import gzip
import importlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.errors import UserError
from tests import runs
from tests.scored import ADDED, hidden_files, read_rows, write_file

predict = importlib.import_module("ssljax.predict")  # ssljax.predict is a function
ROWS = [  # text, and other cells that a reader might change
  ("calm", "007", ""),
  ('say "harm"', "1.50", " spaces "),
  ("two\r\nlines", "1e5", "a\n\nb"),
  ("", "", ""),
  ("comma, semicolon; tab\t", "TRUE", "NULL"),
  ("=1+1", "2024-01-02", "ä ☃"),
]
HEADER = ("text", "n", "note")


def lines_of(rows, separator, end="\n"):
  """Rows with quotes in other places than Python's writer would put them."""
  quoted = lambda cell: '"' + cell.replace('"', '""') + '"'
  return [separator.join(map(quoted, row)) + end for row in rows]


def read_cells(path, separator):
  with open(path, encoding="utf-8-sig", newline="") as file:
    return list(csv.reader(file, delimiter=separator))


STYLES = {
  "commas": ("in.csv", ",", "\n", ""),
  "excel": ("in.csv", ";", "\r\n", "\ufeff"),
  "sep": ("in.csv", ";", "\r\n", "\ufeffsep=;\r\n"),
  "tabs": ("in.tsv", "\t", "\n", ""),
  "gzip": ("in.csv.gz", ",", "\n", "\ufeff"),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("chunk_size", [2, 100])
def test_cells_come_out_unchanged(classifier, tmp_path, monkeypatch, style, chunk_size):
  monkeypatch.setattr(predict, "CHUNK_SIZE", chunk_size)
  name, separator, end, head = STYLES[style]
  lines = lines_of([HEADER, *ROWS], separator, end)
  content = (head + "".join(lines)).encode()
  if name.endswith(".gz"):
    content = gzip.compress(content)
  (tmp_path / name).write_bytes(content)
  output = tmp_path / f"out.{name.split('.')[1]}"
  summary = predict.predict(classifier, tmp_path / name, output)
  assert summary.startswith("6 rows scored")
  assert "1 without a text" in summary
  written = output.read_bytes().decode()
  scores = classifier([row[0] for row in ROWS if row[0]])
  cells = read_cells(output, separator)
  if style == "sep":
    assert cells.pop(0) == ["sep=", ""]
  assert cells[0] == [*HEADER, *ADDED]
  assert written.startswith(head + lines[0].removesuffix(end) + separator + "score")
  for line, row, new in zip(lines[1:], ROWS, cells[1:], strict=True):
    assert tuple(new[:3]) == row
    assert line.removesuffix(end) + separator in written  # the same quotes
    assert (new[3] == "") == (row[0] == "")
  numbers = [float(row[3]) for row in cells[1:] if row[3]]
  assert numbers == pytest.approx(scores, abs=1e-6)
  flagged = [row[4] for row in cells[1:] if row[3]]
  assert flagged == [str(bool(score >= 0.5)).lower() for score in numbers]
  assert not hidden_files(tmp_path)


def test_a_last_line_without_an_end(classifier, tmp_path):
  (tmp_path / "in.csv").write_text("text\ncalm\n\nharm")
  predict.predict(classifier, tmp_path / "in.csv", tmp_path / "out.csv")
  cells = read_cells(tmp_path / "out.csv", ",")
  assert [row[0] for row in cells] == ["text", "calm", "", "harm"]
  assert cells[2][1:] == ["", "", ""]


@pytest.mark.parametrize("name", ["n", "score"])
def test_empty_columns_of_a_spreadsheet_stay_in_their_place(classifier, tmp_path, name):
  (tmp_path / "in.csv").write_text(f"text,{name},,\ncalm,1,,\n\n,,,\nharm,2,,\n")
  predict.predict(classifier, tmp_path / "in.csv", tmp_path / "out.csv")
  cells = read_cells(tmp_path / "out.csv", ",")
  new_name = "input_score" if name == "score" else "n"
  assert cells[0] == ["text", new_name, "", "", *ADDED]
  assert [row[:4] for row in cells[1:]] == [
    ["calm", "1", "", ""],
    ["", "", "", ""],
    ["harm", "2", "", ""],
  ]
  assert all(len(row) == 7 for row in cells)
  predict.predict(classifier, tmp_path / "in.csv", tmp_path / "out.jsonl")
  assert list(read_rows(tmp_path / "out.jsonl")[0]) == ["text", new_name, *ADDED]


def test_other_names_of_columns(classifier, tmp_path):
  rows = [("calm", "harm harm", "x"), ("harm", "", "y")]
  path = tmp_path / "in.csv"
  path.write_text("".join(lines_of([("prompt", "answer", "text"), *rows], ",")))
  names = {"text": "prompt", "response": "answer"}
  predict.predict(classifier, path, tmp_path / "a.csv", "", names)
  cells = read_cells(tmp_path / "a.csv", ",")
  assert [row[:3] for row in cells] == [["prompt", "answer", "text"], *map(list, rows)]
  expected = classifier([("calm", "harm harm"), "harm"])
  assert [float(row[3]) for row in cells[1:]] == pytest.approx(expected, abs=1e-6)
  predict.predict(classifier, path, tmp_path / "b.csv", "", {"text": "answer"})
  assert read_cells(tmp_path / "b.csv", ",")[2][3] == ""
  for suffix in ("jsonl", "parquet"):
    as_dicts = [dict(zip(("prompt", "response"), row, strict=False)) for row in rows]
    source = write_file(tmp_path / f"in.{suffix}", as_dicts)
    names = {"text": "prompt", "response": ""}
    predict.predict(classifier, source, tmp_path / f"out.{suffix}", "", names)
    scores = [row["score"] for row in read_rows(tmp_path / f"out.{suffix}")]
    assert scores == pytest.approx(classifier(["calm", "harm"]), abs=1e-6)
    with pytest.raises(UserError, match=r"no such column \(others: prompt, response\)"):
      predict.check_input(source, str(tmp_path / "o.csv"), {"text": "prompts"})


def test_the_text_may_be_in_a_column_that_is_renamed(classifier, tmp_path):
  for suffix in ("csv", "jsonl", "parquet"):
    source = tmp_path / f"in.{suffix}"
    if suffix == "csv":
      source.write_text("score,text\ncalm,x\n")
    else:
      write_file(source, [{"score": "calm", "text": "x"}])
    for target in ("csv", "jsonl", "parquet"):
      output = tmp_path / f"from-{suffix}.{target}"
      summary = predict.predict(classifier, source, output, "", {"text": "score"})
      assert "score to input_score" in summary
      if target == "csv":
        header, row = read_cells(output, ",")
        row = dict(zip(header, row, strict=True))
      else:
        [row] = read_rows(output)
      assert list(row) == ["input_score", "text", *ADDED]
      assert (row["input_score"], row["text"]) == ("calm", "x")


@pytest.mark.parametrize("target", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", ["in.csv", "in.tsv"])
def test_cells_become_strings_in_other_formats(classifier, tmp_path, name, target):
  separator = "," if name == "in.csv" else "\t"
  (tmp_path / name).write_text(
    "".join(lines_of([HEADER, *ROWS], separator)), newline=""
  )
  output = tmp_path / f"out.{target}"
  predict.predict(classifier, tmp_path / name, output)
  rows = read_rows(output)
  assert list(rows[0]) == [*HEADER, *ADDED]
  for row, cells in zip(rows, ROWS, strict=True):
    assert tuple(row[name] or "" for name in HEADER) == cells
    assert all(row[name] is None for name in HEADER if row[name] in ("", None))


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet"])
@pytest.mark.parametrize(("target", "separator"), [("o.csv", ","), ("o.tsv", "\t")])
def test_rows_of_other_formats_become_cells(
  classifier, tmp_path, source, target, separator
):
  rows = [
    {"text": "calm,\tdown", "n": 7, "x": 0.5, "yes": True, "deep": [{"a": "ä"}]},
    {"text": None, "n": None, "x": float("nan"), "yes": False, "deep": []},
  ]
  if source == "in.jsonl":
    rows += [{"text": "late", "more": {"b": None}}]
  path = write_file(tmp_path / source, rows)
  predict.predict(classifier, path, tmp_path / target)
  header, *cells = read_cells(tmp_path / target, separator)
  names = [*dict.fromkeys(name for row in rows for name in row)]
  assert header == [*names, *ADDED]
  assert cells[0][:4] == ["calm,\tdown", "7", "0.5", "true"]
  assert json.loads(cells[0][4]) == rows[0]["deep"]
  assert cells[1][:5] == ["", "", "", "false", "[]"]
  assert cells[1][-3:] == ["", "", ""]
  if source == "in.jsonl":
    assert cells[2][:6] == ["late", "", "", "", "", '{"b": null}']


def test_dates_and_bytes_become_text(classifier, tmp_path):
  table = pa.table({"text": ["a"], "day": pa.array([3], pa.date32()), "b": [b"a\xff"]})
  pq.write_table(table, tmp_path / "in.parquet")
  predict.predict(classifier, tmp_path / "in.parquet", tmp_path / "out.csv")
  assert read_cells(tmp_path / "out.csv", ",")[1][:3] == ["a", "1970-01-04", r"a\xff"]


@pytest.mark.parametrize("source", ["in.csv", "in.jsonl", "in.parquet"])
def test_no_rows_give_a_header(unused, tmp_path, source):
  if source == "in.csv":
    (tmp_path / source).write_text("text,n\n")
  elif source == "in.jsonl":
    (tmp_path / source).write_text("")
  else:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / source)
  predict.predict(unused, tmp_path / source, tmp_path / "out.csv")
  more = ["n"] if source == "in.csv" else []
  assert read_cells(tmp_path / "out.csv", ",") == [["text", *more, *ADDED]]


BAD = {
  "text,n\na,1\nb,2,3\n": r"line 3: the row has 3 cells, but the header has 2",
  "text,n\na,1\nb\n": r"line 3: the row has 1 cells, but the header has 2",
  "text;n\na;1\nb;2;3\n": r"line 3: the row has 3 cells.*semicolons",
  "text,n,n\na,1,2\n": r"line 1: the header has column 'n' twice",
  "How do I bake?,0\nx,1\n": r"line 1 \(the header\): text: no such column",
  "": r"the file is empty; its first line must name the columns",
  'text,n\na,1\n"b,2\n': r"line 3: not valid CSV",
  "text;n\tm\na;1\n": r"line 1: cannot tell what separates the columns",
  "score,text,input_score\n": r"score would be written as input_score",
}


@pytest.mark.parametrize("content", BAD)
def test_a_mistake_in_a_csv_names_its_line(unused, tmp_path, content):
  (tmp_path / "in.csv").write_text(content)
  with pytest.raises(UserError, match=f"in.csv.*{BAD[content]}"):
    predict.predict(unused, tmp_path / "in.csv", tmp_path / "out.csv")
  assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_another_encoding_names_its_line(unused, tmp_path):
  (tmp_path / "in.csv").write_bytes("text,n\na,1\nKäse,2\n".encode("latin-1"))
  with pytest.raises(UserError, match=r"line 3: not valid UTF-8.*save the file as"):
    predict.predict(unused, tmp_path / "in.csv", tmp_path / "out.csv")


def test_surrogates_do_not_fit_into_csv(unused, tmp_path):
  source = write_file(tmp_path / "in.jsonl", [r'{"text": "a \ud83d"}'])
  with pytest.raises(UserError, match=r"line 1: an unpaired surrogate, which CSV"):
    predict.predict(unused, source, tmp_path / "out.csv")


@pytest.mark.slow
def test_the_command(model, tmp_path):
  (tmp_path / "in.csv").write_text("prompt,n\ncalm,007\n")
  process = runs.command(
    "ssljax.predict",
    *(f"--model={model}", f"--input={tmp_path / 'in.csv'}"),
    *(f"--output={tmp_path / 'out.csv'}", "--columns=text=prompt"),
    env=runs.environment(tmp_path),
  )
  assert process.returncode == 0, process.stderr
  cells = read_cells(tmp_path / "out.csv", ",")
  assert cells[1][:2] == ["calm", "007"]
  shown = process.stderr.splitlines()
  order = [
    next(i for i, line in enumerate(shown) if line.startswith(start))
    for start in ("checking row", "loading", "the first rows", "scoring row 0/1")
  ]
  assert order == sorted(order)
  process = runs.command(
    "ssljax.predict",
    *(f"--model={model}", f"--input={tmp_path / 'in.csv'}"),
    *(f"--output={tmp_path / 'o.csv'}", "--columns=label=prompt"),
    env=runs.environment(tmp_path),
  )
  assert process.returncode == 2
  assert process.stderr == (
    "error: --columns: unknown name 'label'; use text, response\n"
  )

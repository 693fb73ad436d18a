"""The contamination command reports overlaps and refuses mistakes."""

import json
import os
import subprocess
import sys
import unittest.mock

import pytest

from ssljax import cli
from ssljax.data import contamination
from ssljax.errors import RunError, UserError
from tests import runs
from tests.data.dedup.rows import LONG


def write(folder, **parts):
  for name, rows in parts.items():
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.slow
def test_the_command_reports_overlaps(tmp_path):
  views = [{"kind": "llm", "text": "FIVE", "response": None, "origin": ""}]
  duplicates = [
    {"id": "a", "text": LONG},
    {"id": "b", "text": "two", "views": views},
    {"id": "c", "text": "Six"},
  ]
  write(
    tmp_path,
    train=[{"id": "d", "text": "one"}, *duplicates],
    val=[{"text": "three"}],
    test=[{"text": LONG + " than that"}, {"text": "five"}],
    # Labels and ids of the other set do not matter.
    other=[{"text": "six", "label": "bad", "id": "x"}, {"text": "ten", "id": "x"}],
  )
  data = tmp_path / "train.jsonl", tmp_path / "val.jsonl", tmp_path / "test.jsonl"
  output = tmp_path / "new" / "found.json"
  done = runs.command(
    "ssljax.data.contamination",
    f"--data={','.join(map(str, data))}",
    f"--against={tmp_path}/other.jsonl",
    f"--output={output}",
  )
  assert done.returncode == 1, done.stderr
  lines = [line.strip() for line in done.stdout.splitlines()]
  at = {
    name: i
    for i, line in enumerate(lines)
    for name in ("test (", "other")
    if name in line
  }
  assert lines[at["test ("] + 2] == "near texts: 1: a = test:1"
  assert lines[at["test ("] + 3] == "exact views: 1: b = test:2"
  assert lines[at["other"] + 1] == "exact texts: 1: c = x"
  assert len(json.loads(output.read_text())) == 3


def test_no_overlaps(tmp_path, capsys):
  write(tmp_path, train=[{"text": "one"}], val=[{"text": "two"}], test=[{"text": "a"}])
  assert contamination.report_overlaps(str(tmp_path), [], 0.6) == []
  assert capsys.readouterr().out.count("exact texts: 0") == 2


def test_a_train_split_alone_needs_something_to_compare_with(tmp_path, capsys):
  folder = tmp_path / "data"
  folder.mkdir()
  write(folder, train=[{"text": LONG}])
  write(tmp_path, other=[{"text": LONG}])
  contamination.report_overlaps(str(folder), [f"{tmp_path}/other.jsonl"], 0.6)
  assert "exact texts: 1" in capsys.readouterr().out
  with pytest.raises(UserError, match="no validation and no test split"):
    contamination.report_overlaps(str(folder), [], 0.6)


@pytest.mark.parametrize(
  ("name", "content", "more", "message"),
  [
    ("other.jsonl", "", {}, "no rows"),
    ("other.csv", "prompt,label\n", {}, "no rows"),
    ("other.csv", "prompt,label\na,1\n", {}, "no column 'text'"),
    ("other.jsonl", '{"text": "six"}', {"output": "."}, "cannot be used"),
    ("other.jsonl", '{"text": "six"}', {"output": "dataset.json"}, "ends in .json"),
    ("other.jsonl", '{"text": "six"}', {"output": "/proc/x.json"}, "cannot be written"),
    ("other.jsonl", '{"text": "six"}', {"threshold": 1.0}, "--threshold=1"),
    (None, "", {}, r"other\.jsonl"),
  ],
)
def test_mistakes_are_errors_rather_than_overlaps(
  tmp_path, name, content, more, message, capsys
):
  write(tmp_path, train=[{"text": "six"}])
  if name:
    (tmp_path / name).write_text(content)
  against = [str(tmp_path / (name or "other.jsonl"))]
  options = {"threshold": 0.6, "output": ""} | more
  with pytest.raises(UserError, match=message) as caught:
    contamination.report_overlaps(f"{tmp_path}/train.jsonl", against, **options)
  assert caught.value.code == 2
  assert not capsys.readouterr().out


def test_only_a_list_of_overlaps_is_replaced(tmp_path):
  write(
    tmp_path, train=[{"text": "one"}], val=[{"text": "two"}], test=[{"text": "One"}]
  )
  output = tmp_path / "config.json"
  output.write_text('{"seed": 1}')
  with pytest.raises(UserError, match=r"config.json exists and isn't a list of over"):
    contamination.report_overlaps(str(tmp_path), [], 0.6, str(output))
  assert output.read_text() == '{"seed": 1}'
  output.write_text("[]\n")  # as version 0.1.0 wrote it
  for _ in range(2):
    contamination.report_overlaps(str(tmp_path), [], 0.6, str(output))
  assert len(json.loads(output.read_text())) == 1
  assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "full"), RunError("no")])
def test_a_failure_has_another_exit_code_than_an_overlap(monkeypatch, error):
  def fail(*_):
    raise error

  monkeypatch.setattr(contamination, "report_overlaps", fail)
  monkeypatch.setattr(contamination.flags, "FLAGS", unittest.mock.Mock())
  with pytest.raises(SystemExit) as caught:
    sys.exit(cli.guarded(contamination.main, ["contamination"]))
  assert caught.value.code == 2


def test_a_full_standard_output_is_no_overlap(tmp_path):
  write(
    tmp_path, train=[{"text": "one"}], val=[{"text": "two"}], test=[{"text": "One"}]
  )
  with open("/dev/full", "w") as full:
    done = subprocess.run(
      [sys.executable, "-m", "ssljax.data.contamination", f"--data={tmp_path}"],
      stdout=full,
      stderr=subprocess.PIPE,
      text=True,
    )
  assert done.returncode == 2, done.stderr


def start(*arguments, **options):
  """Starts the command in a new interpreter; returns its exit code."""
  command = [sys.executable, "-m", "ssljax.data.contamination", *arguments]
  return subprocess.run(command, capture_output="stderr" not in options, **options)


def test_a_mistake_that_cannot_be_printed_is_no_overlap(tmp_path):
  with open("/dev/full", "w") as full:
    assert start(f"--data={tmp_path}/none", stderr=full).returncode == 2


def test_failed_imports_are_no_overlap(tmp_path):
  (tmp_path / "pyarrow.py").write_text("raise ImportError('broken')")
  environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{runs.ROOT}"}
  done = start(f"--data={tmp_path}", env=environment, text=True)
  assert done.returncode == contamination.FAILED
  assert "ImportError: broken" in done.stderr


def test_help_is_no_overlap():
  assert runs.command("ssljax.data.contamination", "--help").returncode == 0


@pytest.mark.parametrize("foreign", ["[]", "{}", '[["id", "view"]]', "null"])
def test_a_foreign_list_is_kept_and_an_empty_list_of_overlaps_replaced(
  tmp_path, foreign
):
  write(
    tmp_path, train=[{"text": "one"}], val=[{"text": "two"}], test=[{"text": "six"}]
  )
  output = tmp_path / "found.json"
  output.write_text(foreign)
  with pytest.raises(UserError, match="isn't a list of overlaps"):
    contamination.report_overlaps(str(tmp_path), [], 0.6, str(output))
  assert output.read_text() == foreign
  output.unlink()
  for _ in range(2):
    contamination.report_overlaps(str(tmp_path), [], 0.6, str(output))
    assert json.loads(output.read_text()) == []


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_files_with_other_columns_and_a_table_of_overlaps(tmp_path, suffix, capsys):
  rows = [{"id": name, "text": f"{name}, text"} for name in "abc"]
  write(tmp_path, train=rows, val=[{"text": "three"}], test=[{"text": "four"}])
  other = tmp_path / f"other.{suffix}"
  mark = "," if suffix == "csv" else "\t"
  other.write_text(f'key{mark}prompt\n7{mark}"B, text"\n8{mark}new\n')
  output = tmp_path / f"found.{suffix}"
  columns = {"text": "prompt", "id": "key"}
  find = lambda against: contamination.report_overlaps(
    str(tmp_path), against, 0.6, str(output), columns
  )
  (tmp_path / "data").mkdir()
  other = other.rename(tmp_path / "data" / other.name)
  assert [(o.id, o.other_id) for o in find([str(other)])] == [("b", "7")]
  lines = output.read_text().splitlines()
  assert lines[0].split(mark) == list(contamination.Overlap._fields)
  assert lines[1].split(mark) == ["b", "", str(other), "7", "True", "1.0"]
  find([str(other)])  # replaces its own file
  output.write_text("mine\n")
  with pytest.raises(UserError, match="isn't a list of overlaps"):
    find([str(other)])
  assert output.read_text() == "mine\n"

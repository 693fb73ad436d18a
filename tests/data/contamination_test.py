"""The contamination command reports overlaps and refuses mistakes."""

import json

import pytest

from ssljax.data import contamination
from ssljax.errors import UserError
from tests import runs
from tests.data.dedup.rows import LONG


def write(folder, **parts):
  for name, rows in parts.items():
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def command(*flags):
  return runs.command("ssljax.data.contamination", *map(str, flags))


@pytest.mark.parametrize("copies", [False, True])
def test_the_command_reports_overlaps(tmp_path, copies):
  views = [{"kind": "llm", "text": "FIVE", "response": None, "origin": ""}]
  duplicates = [
    {"id": "a", "text": LONG},
    {"id": "b", "text": "two", "views": views},
    {"id": "c", "text": "Six"},
  ]
  write(
    tmp_path,
    train=[{"id": "d", "text": "one"}, *(duplicates if copies else [])],
    val=[{"text": "three"}],
    test=[{"text": LONG + " than that"}, {"text": "five"}],
    # Labels and ids of the other set do not matter.
    other=[{"text": "six", "label": "bad", "id": "x"}, {"text": "ten", "id": "x"}],
  )
  data = tmp_path / "train.jsonl", tmp_path / "val.jsonl", tmp_path / "test.jsonl"
  output = tmp_path / "new" / "found.json"
  done = command(
    f"--data={','.join(map(str, data))}",
    f"--against={tmp_path}/other.jsonl",
    f"--output={output}",
  )
  assert done.returncode == copies, done.stderr
  lines = [line.strip() for line in done.stdout.splitlines()]
  at = {
    name: i
    for i, line in enumerate(lines)
    for name in ("test (", "other")
    if name in line
  }
  if copies:
    assert lines[at["test ("] + 2] == "near texts: 1: a = test:1"
    assert lines[at["test ("] + 3] == "exact views: 1: b = test:2"
    assert lines[at["other"] + 1] == "exact texts: 1: c = x"
  assert len(json.loads(output.read_text())) == 3 * copies


def test_a_train_split_alone_needs_something_to_compare_with(tmp_path):
  folder = tmp_path / "data"
  folder.mkdir()
  write(folder, train=[{"text": LONG}])
  write(tmp_path, other=[{"text": LONG}])
  done = command(f"--data={folder}", f"--against={tmp_path}/other.jsonl")
  assert (done.returncode, "exact texts: 1" in done.stdout) == (1, True)
  done = command(f"--data={folder}")
  assert done.returncode == 2
  assert "no validation and no test split" in done.stderr


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

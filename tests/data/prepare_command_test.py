"""The command `prepare`: what it prints, and what it says about the harmful class."""

import pytest

from ssljax.data.records import checks
from ssljax.data.records.read import read_splits
from tests import runs
from tests.data.csv_source import write_csv


def command(*arguments):
  done = runs.command("ssljax.data.prepare", *arguments)
  return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_command(tmp_path):
  source = write_csv(tmp_path / "mine.csv")
  output = tmp_path / "out"
  arguments = [
    f"--source={source}",
    f"--output={output}",
    "--columns=text=say,label=verdict",
    "--labels=fine,rude,spam",
  ]
  code, out, err = command(*arguments)
  assert (code, err) == (0, "")
  assert out.splitlines()[1:7] == [
    "rows  train  validation  test",
    "fine     10           5     5",
    "rude     10           5     5",
    "spam     10           5     5",
    "all      30          15    15",
    "60 labelled rows: 30 for train, 15 for validation, 15 for test",
  ]
  assert f"wrote {output}" in out
  before = sorted(p.stat().st_mtime_ns for p in output.rglob("*"))
  code, out, err = command(*arguments)
  assert (code, out) == (2, "")
  assert err == (
    f"error: --output={output} already exists; remove it or use another name\n"
  )
  assert sorted(p.stat().st_mtime_ns for p in output.rglob("*")) == before


@pytest.mark.slow
def test_the_harmful_class_is_named(tmp_path):
  source = write_csv(tmp_path / "mine.csv", names=("rude", "no harm"))
  arguments = [f"--source={source}", "--columns=text=say,label=verdict,category="]
  code, out, err = command(
    *arguments, f"--output={tmp_path / 'a'}", "--labels=rude,no harm"
  )
  assert (code, err) == (0, "")
  assert "class 1 counts as harmful: 'no harm', 16 of 32 labelled rows of train" in out
  assert "warning: class 1 counts as harmful, but its name is 'no harm'" in out
  assert "with '--labels=no harm:0,rude:1'" in out
  assert any("no harm" in note for note in read_splits(tmp_path / "a").notes)
  code, out, err = command(
    *arguments, f"--output={tmp_path / 'b'}", "--labels=no harm:0,rude:1"
  )
  assert (code, err) == (0, "")
  assert "class 1 counts as harmful: 'rude', 16 of 32 labelled rows of train" in out
  assert "warning" not in out
  assert read_splits(tmp_path / "b").labels == ("no harm", "rude")


def test_a_list_that_is_given_twice(tmp_path):
  source = write_csv(tmp_path / "mine.csv")
  arguments = [f"--source={source}", f"--output={tmp_path / 'out'}"]
  columns = ["--columns=text=say", "--columns", "label=verdict"]
  code, out, err = command(*arguments, *columns, "--labels=fine,rude,spam")
  assert (code, out) == (2, "")
  assert err == "error: --columns is given twice; give one list, --columns=A,B\n"
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("names", "warned"),
  [
    (("unharmful", "harmful"), False),
    (("safe", "unsafe"), False),
    (("negative", "positive"), False),
    (("0", "1"), False),
    (("1", "2"), False),
    (("harmful", "other"), True),
    (("true", "False"), True),
    (("toxic", "not toxic"), True),
    (("attack", "Non-harmful"), True),
    (("bad", "OK"), True),
    (("1", "0"), True),
    (("ok", "rude", "safe"), False),
  ],
)
def test_names_that_seem_swapped(names, warned):
  assert bool(checks.class_order_warning(names, "")) == warned

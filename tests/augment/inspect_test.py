"""The command that shows views, as a page or in the terminal."""

import subprocess
import sys

import pytest

from ssljax.augment import inspect, view_sample
from ssljax.errors import UserError
from ssljax.evals.report import html
from tests import runs
from tests.augment import command, folders

MARKUP = '<script>alert("x")</script> & <img src=x onerror=y>'
HIDDEN = "a\u200bb \x1b[31mred\x1b[0m \u202eback"


@pytest.fixture
def data(tmp_path):
  folder = folders.make_folder(tmp_path / "data", 8, parts=1)
  rows = folders.make_rows(8)
  for row in rows:
    view = {"kind": "mine", "text": HIDDEN, "response": None, "origin": "e:1"}
    row["views"] = [*(row["views"] or []), view]
  rows[0] |= {"id": "<b>id</b>", "text": MARKUP, "response": MARKUP}
  rows[0]["views"] = [
    {"kind": "<i>k</i>", "text": MARKUP, "response": MARKUP, "origin": MARKUP}
  ]
  folders.write_part(folder / "train" / "part-0.parquet", rows)
  return folder


def test_invisible_characters_are_escaped_in_the_terminal(data, capsys):
  inspect.show(str(data), "mine", 20)
  shown = capsys.readouterr().out
  assert not set("\x1b\u200b\u202e") & set(shown)
  assert r"a\u200bb \u001b[31mred" in shown


def test_a_page_leaves_one_line_in_the_terminal(data, tmp_path, capsys):
  page = tmp_path / "page.html"
  inspect.show(str(data), "", 3, "train", str(page))
  output = capsys.readouterr()
  assert output.out == f"3 of 8 texts with views: {page}\n"
  assert output.err == ""


def test_without_a_page_the_texts_are_printed_and_nothing_is_written(
  data, tmp_path, capsys, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  before = set(tmp_path.rglob("*"))
  inspect.show(str(data), "mine", 2)
  output = capsys.readouterr().out
  assert output.count("mine (e:1)") == 2
  assert "2 of 7 texts with views; for a page" in output
  assert set(tmp_path.rglob("*")) == before


def test_a_missing_kind_is_an_error_that_lists_the_kinds(tmp_path):
  data = folders.make_folder(tmp_path / "data", 8)
  with pytest.raises(
    UserError, match="no views of kind 'mine' in train; available kinds: old"
  ):
    inspect.show(str(data), "mine", 3, "train", str(tmp_path / "page.html"))
  assert not (tmp_path / "page.html").exists()


def test_columns_fit_the_terminal(data):
  parts = sorted((data / "train").glob("*.parquet"))
  for width in (50, 100):
    for row in view_sample.sample_rows(parts, "", 100, 0).rows:
      assert all(len(line) <= width for line in inspect.format_columns(row, width))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--output=data.json"], "must end in .html"),
    (["--output=/proc/x/page.html"], "cannot be written"),
    (["--split=nope"], "--split=nope: no such split"),
    (["--kind=none"], "no views of kind 'none' in train; available kinds"),
  ],
)
def test_mistakes_on_the_command_line_are_one_line(data, arguments, message):
  result = runs.command("ssljax.augment", "inspect", f"--data={data}", *arguments)
  assert result.returncode == 2, result.stderr
  assert message in result.stderr
  assert len(result.stderr.splitlines()) == 1


def test_only_pages_of_this_package_are_overwritten(data, tmp_path):
  page = tmp_path / "page.html"
  page.write_text("<html>somebody's page</html>")
  with pytest.raises(UserError, match=r"not a report of ssljax.*another file"):
    inspect.show(str(data), "", 3, "train", str(page))
  page.write_text(html.render("base.html", title="fixmatch"))  # another report of ours
  with pytest.raises(UserError, match=r"a report of another kind.*another file"):
    inspect.show(str(data), "", 3, "train", str(page))
  page.unlink()
  for _ in range(2):
    assert inspect.show(str(data), "", 3, "train", str(page)) == 0


@pytest.mark.slow
def test_a_closed_pipe_is_not_an_error_and_the_page_is_written(data, tmp_path):
  page = tmp_path / "page.html"
  result = subprocess.run(
    f"{sys.executable} -m ssljax.augment inspect --data={data} --rows=8"
    f" --output={page} | true; exit ${{PIPESTATUS[0]}}",
    shell=True,
    executable="/bin/bash",
    cwd=command.ROOT,
    capture_output=True,
    text=True,
  )
  assert (result.returncode, result.stderr) in ((141, ""), (0, ""))
  assert page.exists()

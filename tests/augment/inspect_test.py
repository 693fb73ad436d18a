"""The side-by-side view in the terminal and on the page; texts are never markup."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import markupsafe
import pytest

from ssljax.augment import inspect
from ssljax.augment.run import run
from ssljax.errors import UserError
from ssljax.evals.report import html
from tests import runs
from tests.augment import command, folders
from tests.augment.command import make_config

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


class Tags(HTMLParser):
  def __init__(self, page):
    super().__init__()
    self.tags, self.text = set(), []
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    assert not any(name.startswith("on") or name == "src" for name, _ in attrs)

  def handle_data(self, data):
    self.text.append(data)


def test_markup_in_texts_is_escaped(data, tmp_path, capsys):
  page = tmp_path / "page.html"
  assert inspect.show(str(data), "", 20, "train", str(page)) == 0
  text = page.read_text()
  parsed = Tags(text)
  assert not parsed.tags & {"script", "img", "b", "i", "link", "iframe"}
  assert "".join(parsed.text).count(MARKUP) == 5
  assert text.count(markupsafe.escape(MARKUP)) == 5
  assert "default-src 'none'" in text
  assert not re.search(r"https?://", text)


def test_invisible_characters_are_escaped(data, tmp_path, capsys):
  page = tmp_path / "page.html"
  inspect.show(str(data), "mine", 20, "train", str(page))
  for shown in (capsys.readouterr().out, page.read_text()):
    assert "\x1b" not in shown
    assert "\u200b" not in shown
    assert "\u202e" not in shown
    assert r"a\u200bb \u001b[31mred" in shown


def test_sampled_rows_are_evenly_spaced_and_have_the_kind(data):
  parts = sorted((data / "train").glob("*.parquet"))
  assert [row["id"] for row in inspect.sample(parts, "mine", 2)] == ["row-1", "row-4"]
  assert [row["id"] for row in inspect.sample(parts, "old", 9)] == ["row-4"]
  assert len(inspect.sample(parts, "", 100)) == 8
  for row in inspect.sample(parts, "mine", 100):
    assert [view["kind"] for view in row["views"]] == ["mine"]


def test_the_page_shows_dropped_candidates_with_their_reason(tmp_path, monkeypatch):
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  data = folders.make_folder(tmp_path / "data", 8)
  run(make_config("refuse_even"), data)
  page = tmp_path / "page.html"
  inspect.show(str(data), "mine", 3, "train", str(page))
  assert "refusal" in page.read_text()
  assert "I cannot help with that." in page.read_text()
  assert "texts without a view" not in page.read_text()


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
    for row in inspect.sample(parts, "", 100):
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


def test_rows_are_sampled_from_all_parts(tmp_path):
  data = folders.make_folder(tmp_path / "data", 60, parts=3)
  run(make_config(), data)
  parts = sorted((data / "train").glob("*.parquet"))
  numbers = [int(row["id"].split("-")[1]) for row in inspect.sample(parts, "mine", 6)]
  assert numbers == [0, 10, 20, 30, 40, 50]

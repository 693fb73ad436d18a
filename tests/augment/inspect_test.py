"""The side-by-side view: texts are shown as they are, and never as markup."""

import html
import re
import subprocess
import sys
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.augment import inspect
from ssljax.augment.run import run
from ssljax.data.records.schema import SCHEMA
from ssljax.errors import UserError
from tests.augment import places
from tests.augment.folders import config

EVIL = '<script>alert("x")</script> & <img src=x onerror=y>'
HIDDEN = "a\u200bb \x1b[31mred\x1b[0m \u202eback"


@pytest.fixture
def data(tmp_path):
  folder = places.folder(tmp_path / "data", 8, parts=1)
  rows = places.rows(8)
  for row in rows:
    view = {"kind": "mine", "text": HIDDEN, "response": None, "origin": "e:1"}
    row["views"] = [*(row["views"] or []), view]
  rows[0] |= {"id": "<b>id</b>", "text": EVIL, "response": EVIL}
  rows[0]["views"] = [
    {"kind": "<i>k</i>", "text": EVIL, "response": EVIL, "origin": EVIL}
  ]
  table = pa.Table.from_pylist(rows, SCHEMA)
  pq.write_table(table, folder / "train" / "part-0.parquet")
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


def test_a_text_is_never_markup(data, tmp_path, capsys):
  page = tmp_path / "page.html"
  assert inspect.show(str(data), "", 20, "train", str(page)) == 0
  text = page.read_text()
  found = Tags(text)
  assert not found.tags & {"script", "img", "b", "i", "link", "iframe"}
  assert "".join(found.text).count(EVIL) == 5
  assert text.count(html.escape(EVIL)) == 5
  assert "default-src 'none'" in text
  assert not re.search(r"https?://", text)


def test_nothing_hidden_reaches_the_terminal_or_the_page(data, tmp_path, capsys):
  page = tmp_path / "page.html"
  inspect.show(str(data), "mine", 20, "train", str(page))
  for shown in (capsys.readouterr().out, page.read_text()):
    assert "\x1b" not in shown
    assert "\u200b" not in shown
    assert "\u202e" not in shown
    assert r"a\u200bb \u001b[31mred" in shown


def test_a_kind_and_a_number_of_rows_are_chosen_evenly(data):
  parts = sorted((data / "train").glob("*.parquet"))
  assert [row["id"] for row in inspect.sample(parts, "mine", 2)] == ["row-1", "row-4"]
  assert [row["id"] for row in inspect.sample(parts, "old", 9)] == ["row-4"]
  assert len(inspect.sample(parts, "", 100)) == 8
  for row in inspect.sample(parts, "mine", 100):
    assert [view["kind"] for view in row["views"]] == ["mine"]


def test_dropped_views_are_shown_with_their_reason(tmp_path, monkeypatch):
  from ssljax.augment.run import run
  from tests.augment.folders import config

  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  data = places.folder(tmp_path / "data", 8)
  run(config("stubborn"), data)
  page = tmp_path / "page.html"
  inspect.show(str(data), "mine", 3, "train", str(page))
  assert "refusal" in page.read_text()
  assert "I cannot help with that." in page.read_text()
  assert "texts without a view" not in page.read_text()


def test_a_folder_without_views_says_so(tmp_path, capsys):
  data = places.folder(tmp_path / "data", 8)
  with pytest.raises(
    UserError, match="no views of kind 'mine' in train; there are old"
  ):
    inspect.show(str(data), "mine", 3, "train", str(tmp_path / "page.html"))
  assert not (tmp_path / "page").exists()


def test_columns_stay_within_the_terminal(data):
  parts = sorted((data / "train").glob("*.parquet"))
  for width in (50, 100):
    for row in inspect.sample(parts, "", 100):
      assert all(len(line) <= width for line in inspect.format_columns(row, width))


@pytest.mark.parametrize(
  ("more", "code", "said"),
  [
    (["--output=data.json"], 2, "ends in .html"),
    (["--output=/proc/x/page.html"], 2, "cannot be written"),
    (["--split=nope"], 2, "--split=nope: no such split"),
    (["--kind=none"], 2, "no views of kind 'none' in train; there are"),
  ],
)
def test_the_command_and_its_mistakes(data, tmp_path, more, code, said):
  command = [sys.executable, "-m", "ssljax.augment", "inspect", f"--data={data}"]
  done = subprocess.run(
    [*command, *more], cwd=places.ROOT, capture_output=True, text=True
  )
  assert done.returncode == code, done.stderr
  assert said in done.stderr
  assert len(done.stderr.splitlines()) == bool(said)


def test_a_reader_that_leaves_is_no_error_and_the_page_is_there(data, tmp_path):
  page = tmp_path / "page.html"
  done = subprocess.run(
    f"{sys.executable} -m ssljax.augment inspect --data={data} --rows=8"
    f" --output={page} | true; exit ${{PIPESTATUS[0]}}",
    shell=True,
    executable="/bin/bash",
    cwd=places.ROOT,
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stderr) in ((141, ""), (0, ""))
  assert page.exists()


def test_what_is_shown_comes_from_all_parts(tmp_path):
  data = places.folder(tmp_path / "data", 60, parts=3)
  run(config(), data)
  parts = sorted((data / "train").glob("*.parquet"))
  found = [int(row["id"].split("-")[1]) for row in inspect.sample(parts, "mine", 6)]
  assert found == [0, 10, 20, 30, 40, 50]

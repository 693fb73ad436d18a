"""The page of views: what it shows and folds, and that texts never become markup."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from ssljax.augment import inspect, views_page
from ssljax.augment.run import run
from tests.augment import folders
from tests.augment.command import make_config

MARKUP = '</script></details><script>alert("x")</script> & <img src=x onerror=y>'
HIDDEN = "a\u200bb \x1b[31mred\x1b[0m \u202eback \u200fright"


class Page(HTMLParser):
  """The entries of a page: their attributes, the line that is visible, and the rest."""

  VOID = ("meta", "input", "br")

  def __init__(self, content):
    super().__init__()
    self.tags, self.text, self.script, self.open = [], "", "", []
    self.entries = []
    self.feed(content)
    assert not self.open

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    assert not any(n.startswith("on") or n in ("src", "href") for n, _ in attributes)
    attributes = dict(attributes)
    if "entry" in attributes.get("class", ""):
      self.entries.append({**attributes, "line": "", "rest": ""})
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] in ("script", "style"):
      self.script += data if self.open[-1] == "script" else ""
      return
    self.text += data
    if "details" in self.open and self.entries:
      nested = self.open.count("details") > 1
      is_line = "summary" in self.open and not nested
      self.entries[-1]["line" if is_line else "rest"] += data


def show(data, tmp_path, kind="", rows=None, **options):
  path = tmp_path / "page.html"
  assert inspect.show(str(data), kind, rows, output=str(path), **options) == 0
  content = path.read_text()
  return content, Page(content)


def write_rows(data, changes):
  """Writes train with a view of each row; `changes` replaces columns of row i."""
  rows = folders.make_rows(len(changes))
  for row, change in zip(rows, changes, strict=True):
    row["views"] = [
      {"kind": "mine", "text": "a view", "response": None, "origin": "e:1"}
    ]
    row.update(change)
  folders.write_part(data / "train" / "part-0.parquet", rows)


@pytest.fixture
def data(tmp_path):
  return folders.make_folder(tmp_path / "data", 8, parts=1)


def test_markup_in_texts_is_escaped(data, tmp_path):
  view = {"kind": MARKUP, "text": MARKUP, "response": MARKUP, "origin": MARKUP}
  row = dict.fromkeys(("id", "text", "response", "label_name", "source"), MARKUP)
  write_rows(data, [{**row, "views": [view]}])
  content, page = show(data, tmp_path)
  assert page.tags.count("script") == 1
  assert "img" not in page.tags
  assert "alert" not in page.script
  assert page.text.count(MARKUP) >= 8
  assert not re.search(r"https?://|url\(|@import", content)


def test_only_the_script_of_the_page_may_run(data, tmp_path):
  content, page = show(data, tmp_path)
  digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
  policy = (
    f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
  )
  assert f'content="{policy}"' in content
  # Without the script, there are no dead controls.
  assert re.search(r'<div class="tools" id="tools" hidden>', content)


def test_invisible_characters_are_escaped(data, tmp_path):
  write_rows(data, [{"text": HIDDEN, "id": HIDDEN, "category": HIDDEN}])
  content, page = show(data, tmp_path)
  assert not set("\u200b\x1b\u202e\u200f") & set(content)
  assert r"a\u200bb \u001b[31mred\u001b[0m \u202eback \u200fright" in page.text


def test_the_name_of_the_folder_is_escaped(data, tmp_path):
  other = data.rename(tmp_path / "<b>\u202eback")
  content, page = show(other, tmp_path)
  assert "\u202e" not in content
  assert page.text.count(r"Views of <b>\u202eback, train") == 2  # title and heading


def test_texts_are_folded_unless_they_are_labelled_as_harmless(data, tmp_path):
  names = {0: "good", 1: "bad", None: "unlabelled"}
  changes = [{"label": label, "text": f"text number {i}"} for i, label in
             enumerate((0, 1, None, 1, 0))]  # fmt: skip
  write_rows(data, changes)
  _, page = show(data, tmp_path)
  assert len(page.entries) == 5
  for i, (entry, change) in enumerate(zip(page.entries, changes, strict=True)):
    assert ("open" in entry) == (change["label"] == 0)
    # The line of a text has its id, label, length and decision, but not the text.
    for shown in (
      f"row-{i}",
      names[change["label"]],
      "13 characters",
      "mine: 1 unknown",
    ):
      assert shown in entry["line"]
    assert f"number {i}" not in entry["line"]
    assert f"number {i}" in entry["rest"]


@pytest.mark.parametrize("labels", [["a", "b", "c"], None])
def test_all_texts_are_folded_unless_there_are_two_classes(data, tmp_path, labels):
  (data / "dataset.json").write_text(json.dumps({"labels": labels} if labels else {}))
  _, page = show(data, tmp_path)
  assert page.entries
  assert not any("open" in entry for entry in page.entries)
  assert "All texts are folded" in page.text


def test_changes_are_marked(data, tmp_path):
  view = {"kind": "mine", "text": "bake a cake", "response": "no", "origin": "e:1"}
  write_rows(data, [{"text": "bake a loaf", "response": "yes", "views": [view]}])
  content, _ = show(data, tmp_path)
  assert "bake a <del>loaf</del>" in content
  assert "bake a <ins>cake</ins>" in content
  assert "<del>yes</del>" in content
  assert "<ins>no</ins>" in content


def test_long_texts_are_cut_and_the_page_says_so(data, tmp_path):
  write_rows(data, [{"text": "x" * 25_000}, {"text": "好" * 10_000}])
  content, page = show(data, tmp_path)
  assert "x" * 10_000 + " … (15,000 more characters)" in page.text
  assert "25,000 characters" in page.text
  assert "好" * 10_000 in page.text
  assert len(content) < 100_000


def test_the_page_says_how_many_texts_there_are_and_which_are_shown(data, tmp_path):
  write_rows(data, [{"views": None}] * 2 + [{}] * 6)
  _, page = show(data, tmp_path, rows=4, seed=7)
  text = " ".join(page.text.split())
  assert "The split train has 8 texts; 6 of them have views." in text
  assert "This page shows 4 of these, drawn at random with seed 7." in text
  assert len(page.entries) == 4
  _, page = show(data, tmp_path, rows=6)
  assert "This page shows all of these." in page.text
  assert "drawn at random" not in page.text


@pytest.fixture
def refused(tmp_path, monkeypatch):
  """A folder of 40 texts; of every second one, candidates were dropped."""
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  data = folders.make_folder(tmp_path / "data", 40)
  run(make_config("refuse_even"), data)
  return data


def test_the_page_shows_dropped_candidates_with_their_reason(refused, tmp_path):
  number = len(folders.read_dropped(refused))
  _, page = show(refused, tmp_path, "mine")
  assert len(page.entries) == 40
  of_texts = [entry for entry in page.entries if "dropped" in entry["data-decisions"]]
  assert len(of_texts) == 20
  for entry in of_texts:
    assert re.search(r"mine: 1 kept, \d dropped", entry["line"])
    assert "I cannot help with that." in entry["rest"]
    assert "candidate 1 dropped: refusal" in entry["rest"]
    assert "It begins like a refusal." in entry["rest"]
  assert f"refusal {number}" in page.text


def test_dropped_candidates_of_other_texts_are_sampled(refused, tmp_path):
  number = len(folders.read_dropped(refused))
  _, page = show(refused, tmp_path, "mine", rows=3)
  first, others = page.entries[:3], page.entries[3:]
  assert len(others) == 3
  assert {e["data-decisions"] for e in others} == {"dropped"}
  ids = [re.search(r"row-\d+", e["line"])[0] for e in page.entries]
  assert not set(ids[:3]) & set(ids[3:])
  of_texts = sum(e["rest"].count(" dropped: refusal") for e in first)
  text = " ".join(page.text.split())
  assert f"dropped {number} candidates of texts in train" in text
  assert f"This page shows {of_texts + 3} of them" in text
  assert "drawn at random with seed 0 for each reason" in text


def test_views_whose_kind_is_no_file_name_are_shown(data, tmp_path):
  kinds = ["../x", "a\0b", str(tmp_path / "x")]
  (data / "augment").mkdir()
  for path in (data / "x.json", tmp_path / "x.json"):  # not in the folder of reports
    path.write_text(json.dumps({"origin": "e:1", "counts": {"elsewhere": 1}}))
  view = {"text": "a view", "response": None, "origin": "e:1"}
  write_rows(data, [{"views": [{**view, "kind": kind}]} for kind in kinds])
  _, page = show(data, tmp_path)
  assert [e["data-decisions"] for e in page.entries] == ["unknown"] * 3
  assert "elsewhere" not in page.text


def test_a_text_with_many_dropped_candidates_shows_some_and_counts_all():
  row = {"id": "1", "text": "t", "response": None, "label": 0, "label_name": None,
         "category": None, "source": None}  # fmt: skip
  candidate = {
    "id": "1",
    "reason": "empty",
    "text": "",
    "response": None,
    "origin": "e",
  }
  pairs = [
    views_page._dropped_pair(row, "mine", {**candidate, "number": i}, {})
    for i in range(views_page.MAX_DROPPED + 5)
  ]
  entry = views_page._entry(row, ["good", "bad"], [], pairs)
  assert len(entry.dropped) == views_page.MAX_DROPPED
  assert entry.left_out == 5
  assert entry.reasons == f"{views_page.MAX_DROPPED + 5} empty"

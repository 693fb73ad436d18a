"""Reports: one file, no network, no script; what a text says is never markup."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from ssljax.errors import UserError
from ssljax.evals import comparison, runs
from ssljax.evals.report import html, page
from ssljax.report import report
from tests.evals import folders
from tests.runs import ROOT


class Page(HTMLParser):
  """Tags, attributes and the text of a page; fails on what is not closed."""

  VOID = ("meta", "br", "img", "link", "input")

  def __init__(self, content):
    super().__init__()
    self.tags, self.attributes, self.text, self.open = set(), [], "", []
    self.feed(content)
    assert not self.open

  def handle_starttag(self, tag, attributes):
    self.tags.add(tag)
    self.attributes += attributes
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.tags.add(tag)
    self.attributes += attributes

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data


def checked(content):
  """The page, held to what every report is."""
  found = Page(content)
  assert not found.tags & {"script", "img", "link", "iframe", "object"}
  for name, value in found.attributes:
    assert not name.startswith("on")
    if name in ("src", "href", "xlink:href"):
      assert value.startswith("#")
  assert "url(http" not in content
  ids = [value for name, value in found.attributes if name == "id"]
  used = set(re.findall(r'(?:href="|url\()#([^")]+)', content))
  assert used <= set(ids)  # a drawing finds its own pieces
  assert "<b>bold" not in content
  assert str(7919 * 7919) not in content  # of folders.EVIL
  return found


def test_the_report_of_a_run_says_all_and_obeys_nothing(tmp_path):
  run = runs.read(folders.run(tmp_path / "run"))
  content = page.of_run(run)
  found = checked(content)
  for part in (
    *("Where to flag", "All metrics", "Can the score be trusted?", "Where it fails"),
    *("The surest errors", "Training", "The config"),
    *("fpr_0.1%", "it takes 5000 to tell", "best_f1", "balanced_accuracy", "harmful"),
    *(folders.EVIL, "</td><b>bold</b>", "3 of 80"),
  ):
    assert part in found.text
  assert content.count("<svg") == 9
  assert "currentColor" in content
  assert "#010203" not in content
  f1, (low, high) = run.result["test"]["f1"], run.result["test"]["f1_interval"]
  assert f"{f1:.3f}" in found.text
  assert f"[{low:.3f}, {high:.3f}]" in found.text
  assert "Not finished" not in found.text
  assert page.of_run(run) == content  # the same run, the same bytes


def test_a_hash_of_parameters_says_of_which_step_it_is(tmp_path):
  run = runs.read(folders.run(tmp_path / "run"))
  assert (run.result["step"], run.result["steps"]) == (20, 30)
  found = checked(page.of_run(run)).text
  assert "parameters after step 30, SHA-256" in found


@pytest.mark.parametrize(
  "more",
  [
    {"names": ("a", "b", "c")},
    {"names": ("$\\bad{$", "b")},
    {"one_class": True},
    {"skill": 50.0},
  ],
)
def test_runs_without_some_of_it_have_a_report_too(tmp_path, more):
  run = runs.read(folders.run(tmp_path / "run", **more))
  found = checked(page.of_run(run))
  two = len(run.labels) == 2
  assert ("Where to flag" in found.text) == two
  by_wilson = "accuracy, precision, recall, false alarms and" in found.text
  assert by_wilson == two
  if more.get("one_class"):
    assert "the labels are all of one class" in found.text
    assert run.result["test"]["auroc"] is None
    assert run.result["undefined"]["temperature"] == "the labels are all of one class"
    assert "validation has texts of one class only" in found.text


def test_a_comparison_has_every_method_data_set_and_budget(tmp_path):
  for data in ("one", "two"):
    for method, skill in (("supervised", 1.0), ("fixmatch", 1.5), ("multimatch", 2.0)):
      for seed in range(2):
        name = f"{data}-{method}-{seed}"
        folders.run(tmp_path / name, method, seed, data, skill=skill)
  folders.run(tmp_path / "more", "supervised", 0, "one", labels=50)
  folders.run(tmp_path / "all", "supervised", 0, "one", labels=0, skill=3.0)
  found = checked(page.of_comparison(runs.find([str(tmp_path)])))
  for part in (
    *("14 runs, 3 methods", "one, 200 labels", "two, 200 labels", "one, 50 labels"),
    *("one, all labels", "±", "By labels", "supervised, all labels", "The runs"),
  ):
    assert part in found.text
  own = [
    one.result
    for one in runs.find([str(tmp_path / f"two-fixmatch-{k}") for k in (0, 1)])
  ]
  for values in (
    [one["calibration"]["before"]["ece"] for one in own],
    [one["calibration"]["after"]["brier"] for one in own],
    [one["temperature"] for one in own],
    [one["thresholds"]["fpr_5%"]["recall"] for one in own],
    [one["thresholds"]["best_f1"]["false_positive_rate"] for one in own],
  ):
    assert f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" in found.text


@pytest.mark.parametrize("first", ["a-two", "a-three"])
def test_data_sets_of_two_and_of_three_classes_on_one_page(tmp_path, first):
  other = {"a-two": "b-three", "a-three": "b-two"}[first]
  for name in (first, other):
    classes = ("a", "b", "c") if "three" in name else ("fine", "harmful")
    for method in ("supervised", "fixmatch"):
      folders.run(tmp_path / f"{name}-{method}", method, data=name, names=classes)
  found = checked(page.of_comparison(runs.find([str(tmp_path)])))
  _, *parts = re.split("[ab]-(?:two|three), 200 labels", found.text)
  kinds = [name[2:] for name in (first, other)]
  two, three = (parts[kinds.index(kind)] for kind in ("two", "three"))
  assert "auprc are of the harmful\nclass" in two
  assert "caught, fpr_1%" in two
  assert "All but accuracy are means over the classes" in three
  assert "harmful" not in three.partition("What goes with")[0].partition("The runs")[0]


def test_a_page_in_print_is_told_to_show_its_whole_tables(tmp_path):
  for method in ("supervised", "fixmatch", "multimatch"):
    for seed in range(2):
      folders.run(tmp_path / f"{method}{seed}", method, seed)
  content = page.of_comparison(runs.find([str(tmp_path)]))
  printed = content.partition("@media print")[2].partition("</style>")[0]
  assert ".wide { overflow: visible;" in printed
  assert "@page { size: landscape; }" in printed


def test_an_aim_that_a_run_has_no_threshold_for_is_not_averaged(tmp_path):
  for seed in range(2):
    place = folders.run(tmp_path / str(seed), seed=seed)
  result = json.loads((place / "result.json").read_text())
  result["thresholds"]["fpr_5%"] = {
    "threshold": None,
    "warning": "x",
    "validation": None,
  }
  (place / "result.json").write_text(json.dumps(result))
  (group,) = comparison.groups(runs.find([str(tmp_path)]))
  at = 2 * page.AIMS.index("fpr_5%")
  caught = page._caught(group)
  assert caught[at] == caught[at + 1] == (None, None)
  assert all(mean is not None for mean, _ in caught[:at] + caught[at + 2 :])


def command(*given):
  return subprocess.run(
    [sys.executable, "-m", "ssljax.report", *map(str, given)],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )


def test_the_command(tmp_path):
  one, two = (
    folders.run(tmp_path / "sweep" / name, seed=i) for i, name in enumerate("ab")
  )
  report([str(one)])
  checked((one / "report.html").read_text())
  output = tmp_path / "deep" / "page.html"
  done = command(one, two, f"--output={output}")
  assert done.returncode == 0, done.stderr
  assert "2 runs, 1 methods" in output.read_text()
  done = command(one, two, f"--output={one}/result.json")
  assert done.returncode == 2
  assert len(done.stderr.splitlines()) == 1
  done = command(tmp_path / "nowhere")
  assert done.returncode == 2
  assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
  ("given", "said"),
  [
    ([], "no run given"),
    (["nowhere"], "no such folder"),
    (["empty"], "holds no run of ssljax"),
    (["exported"], "holds no run of ssljax"),
    (["unfinished"], "the run is not finished"),
    (["old"], "older version"),
    (["broken"], "cannot be read"),
  ],
)
def test_a_mistake_is_one_line(tmp_path, given, said):
  for name in ("empty", "unfinished", "old", "broken", "exported"):
    (tmp_path / name).mkdir()
  (tmp_path / "exported" / "config.json").write_text('{"model_type": "bert"}')
  for name in ("unfinished", "old", "broken"):
    (tmp_path / name / "config.json").write_text('{"resolved": {}}')
  (tmp_path / "old" / "result.json").write_text("{}")
  (tmp_path / "broken" / "result.json").write_text("{")
  folders.run(tmp_path / "run")
  with pytest.raises(UserError, match=said):
    report([str(tmp_path / name) for name in given])
  with pytest.raises(UserError, match=r"--output=.*: cannot be written"):
    report([str(tmp_path / "run")], tmp_path)


def test_nothing_but_a_report_is_replaced(tmp_path, monkeypatch):
  one, two = (folders.run(tmp_path / name, seed=i) for i, name in enumerate("ab"))
  both = [str(one), str(two)]
  kept = one / "result.json"
  before = kept.read_bytes()
  for output in (kept, tmp_path / "new", tmp_path / "new.json"):
    with pytest.raises(UserError, match=r"--output=.*: .*ends in \.html"):
      report(both, output)
  assert kept.read_bytes() == before
  assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
  # Nor is a page of others, though its body speaks of us.
  monkeypatch.chdir(tmp_path)
  mine = tmp_path / "comparison.html"
  mark = html.MARKS[0].decode()
  for content in ("", f"<html><head></head><body>{mark}</body></html>"):
    mine.write_text(content)
    with pytest.raises(UserError, match="not known to be a report"):
      report(both)
    assert mine.read_text() == content
  mine.unlink()
  report(both)
  first = mine.read_text()
  report([str(one)], mine)
  assert mine.read_text() == page.of_run(runs.read(one)) != first
  report(both, mine)
  assert mine.read_text() == first
  # A page from before pages said whose they are.
  mine.write_text(first.replace(html.MARKS[0].decode(), ""))
  report(both, mine)
  assert mine.read_text() == first


@pytest.mark.parametrize("finished", [2, 1])
def test_runs_that_are_not_finished_are_named(tmp_path, finished, capsys, monkeypatch):
  sweep = tmp_path / "sweep"
  places = [folders.run(sweep / f"run{seed}", seed=seed) for seed in range(3)]
  for place in places[finished:]:
    (place / "result.json").unlink()
  (sweep / "exported").mkdir()  # a config.json, of no run
  (sweep / "exported" / "config.json").write_text('{"model_type": "bert"}')
  output = tmp_path / "page.html"
  for given in ([sweep], places):
    report(list(map(str, given)), output)
    said = capsys.readouterr()
    assert said.out == f"{finished} runs: {output}\n"
    lines = said.err.splitlines()
    assert lines == [f"not finished, so left out: {p}" for p in places[finished:]]
    found = checked(output.read_text())
    names = found.text.partition("Not finished")[2]
    for place in places[finished:]:
      assert str(place) in names
  # Nor does the page of several go into the folder of the one that is.
  monkeypatch.chdir(tmp_path)
  report([str(sweep)])
  assert (tmp_path / "comparison.html").exists()
  assert not (places[0] / "report.html").exists()
  capsys.readouterr()
  done = command(sweep, f"--output={output}")
  assert done.returncode == 0, done.stderr
  assert done.stderr.splitlines() == lines
  for place in places[:finished]:
    (place / "result.json").unlink()
  with pytest.raises(UserError, match=r"run0: has no result\.json: the run is not fin"):
    report([str(sweep)], output)


def test_predictions_that_are_gone_are_named(tmp_path):
  workdir = folders.run(tmp_path / "run")
  (workdir / "predictions" / "test.parquet").write_bytes(b"PAR1")
  with pytest.raises(UserError, match=r"test\.parquet: cannot be read"):
    page.of_run(runs.read(workdir))

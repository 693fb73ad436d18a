"""The report command: its arguments, its output file and its error lines."""

import subprocess
import sys

import pytest

from ssljax.errors import UserError
from ssljax.evals import runs
from ssljax.evals.report import html
from ssljax.evals.report.run_page import render_run
from ssljax.report import report
from tests.evals.report.page_checks import check_page
from tests.evals.run_folders import make_run
from tests.runs import ROOT


@pytest.fixture
def two_runs(tmp_path):
  return [make_run(tmp_path / name, seed=seed) for seed, name in enumerate("ab")]


@pytest.mark.slow
def test_the_command_writes_a_report(tmp_path, two_runs):
  output = tmp_path / "deep" / "page.html"
  done = subprocess.run(
    [sys.executable, "-m", "ssljax.report", *two_runs, f"--output={output}"],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout == f"2 runs: {output}\n"
  assert "2 runs, 1 method<" in output.read_text()


@pytest.mark.slow
def test_the_report_of_one_run_is_in_its_folder(two_runs, capsys):
  path = report([str(two_runs[0])])
  assert path == two_runs[0] / "report.html"
  sentences = capsys.readouterr().out.splitlines()
  assert sentences[0].startswith("No threshold can be promised yet")
  assert sentences.pop() == f"1 run: {path}"
  page = check_page(path.read_text()).text
  assert all(sentence in page for sentence in sentences)


@pytest.mark.parametrize(
  ("names", "message"),
  [
    ([], "no run given"),
    (["nowhere"], "no such folder"),
    (["empty"], "contains no ssljax run"),
    (["exported"], "contains no ssljax run"),
    (["unfinished"], "the run is not finished"),
    (["old"], "older version"),
    (["broken"], "cannot be read"),
  ],
)
def test_mistakes_are_named(tmp_path, names, message):
  for name in ("empty", "unfinished", "old", "broken", "exported"):
    (tmp_path / name).mkdir()
  (tmp_path / "exported" / "config.json").write_text('{"model_type": "bert"}')
  for name in ("unfinished", "old", "broken"):
    (tmp_path / name / "config.json").write_text('{"resolved": {}}')
  (tmp_path / "old" / "result.json").write_text("{}")
  (tmp_path / "broken" / "result.json").write_text("{")
  with pytest.raises(UserError, match=message):
    report([str(tmp_path / name) for name in names])


@pytest.mark.slow
def test_only_a_report_is_replaced(tmp_path, two_runs, monkeypatch):
  both = list(map(str, two_runs))
  result = two_runs[0] / "result.json"
  before = result.read_bytes()
  for output in (result, tmp_path / "new", tmp_path / "new.json"):
    with pytest.raises(UserError, match=r"--output=.*: .*must end in \.html"):
      report(both, output)
  with pytest.raises(UserError, match=r"--output=.*: cannot be written"):
    report(both, tmp_path)
  assert result.read_bytes() == before
  assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
  # Other pages are kept, even if their body contains the mark of a report.
  monkeypatch.chdir(tmp_path)
  page = tmp_path / "comparison.html"
  mark = html.MARK.decode()
  for content in ("", f"<html><head></head><body>{mark}</body></html>"):
    page.write_text(content)
    with pytest.raises(UserError, match="is not a report of ssljax"):
      report(both)
    assert page.read_text() == content
  page.unlink()
  report(both)
  first = page.read_text()
  report([str(two_runs[0])], page)
  assert page.read_text() == render_run(runs.read_run(two_runs[0])) != first
  report(both, page)
  assert page.read_text() == first
  # Reports of early versions name no generator.
  page.write_text(first.replace('<meta name="generator" content="ssljax">', ""))
  report(both, page)
  assert page.read_text() == first


@pytest.mark.parametrize("finished", [2, 1])
def test_unfinished_runs_are_listed(tmp_path, finished, capsys, monkeypatch):
  sweep = tmp_path / "sweep"
  workdirs = [make_run(sweep / f"run{seed}", seed=seed) for seed in range(3)]
  for workdir in workdirs[finished:]:
    (workdir / "result.json").unlink()
  (sweep / "exported").mkdir()  # has a config.json but is not a run
  (sweep / "exported" / "config.json").write_text('{"model_type": "bert"}')
  output = tmp_path / "page.html"
  for paths in ([sweep], workdirs):
    report(list(map(str, paths)), output)
    printed = capsys.readouterr()
    assert f": {output}\n" in printed.out
    expected = [f"left out, not finished: {path}" for path in workdirs[finished:]]
    assert printed.err.splitlines() == expected
    text = check_page(output.read_text()).text
    left_out = text.partition("These runs are not finished and are left out:")[2]
    for workdir in workdirs[finished:]:
      assert str(workdir) in left_out
  # A comparison isn't written to the folder of its only finished run.
  monkeypatch.chdir(tmp_path)
  report([str(sweep)])
  assert (tmp_path / "comparison.html").exists()
  assert not (workdirs[0] / "report.html").exists()
  for workdir in workdirs[:finished]:
    (workdir / "result.json").unlink()
  with pytest.raises(UserError, match=r"run0: has no result\.json"):
    report([str(sweep)], output)

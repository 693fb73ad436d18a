"""Report pages are written only to new files and over other reports."""

import importlib.resources

import pytest

from ssljax.evals.report import html


def test_write_report_replaces_nothing_but_reports(tmp_path):
  other = tmp_path / "index.html"
  other.write_text("<html><head></head></html>")
  with pytest.raises(OSError, match="is not a report of ssljax"):
    html.write_report(other, "new")
  assert other.read_text() == "<html><head></head></html>"
  report = tmp_path / "new" / "report.html"
  page = f"<html><head><meta {html.MARK.decode()}></head>{{}}</html>"
  html.write_report(report, page.format("first"))
  html.write_report(report, page.format("second \ud83d"))
  assert report.read_text() == page.format("second ?")  # half a surrogate pair
  assert list(report.parent.iterdir()) == [report]


def test_numbers_are_formatted_with_enough_digits():
  assert html.interval([0.12345, 1]) == "[0.123, 1.000]"
  assert html.number(None) == html.threshold(None) == "–"
  assert html.threshold(0.1234567) == "0.1235"
  assert html.threshold(0.9999876543) == "0.9999877"


def test_a_report_of_runs_and_a_page_of_views_do_not_replace_each_other(tmp_path):
  head = f"<html><head>{html.MARK.decode()}<title>{{}} data, train</title></head>"
  views, report = head.format("Views of"), head.format("fixmatch on")
  path = tmp_path / "page.html"
  for old, new in ((views, report), (report, views)):
    path.write_text(old)
    with pytest.raises(FileExistsError, match="a report of another kind"):
      html.check_report_path(path, views=new == views)
    with pytest.raises(FileExistsError, match="a report of another kind"):
      html.write_report(path, new)
    html.write_report(path, old + "again")
    assert path.read_text() == old + "again"


def test_every_table_scrolls_inside_itself():
  templates = importlib.resources.files("ssljax.evals.report") / "templates"
  for path in templates.iterdir():
    content = path.read_text(encoding="utf-8")
    assert content.count("<table") == content.count('<div class="wide"><table'), path

"""Plots: series can be told apart, and axes are labelled with plain numbers."""

import re

from ssljax.evals.report import plots


def test_no_two_of_thirty_series_have_the_same_style():
  styles = [plots.series_style(k) for k in range(30)]
  assert len({str(style) for style in styles}) == 30
  assert len({style["color"] for style in styles[:6]}) == 6
  assert len({str(style["linestyle"]) for style in styles[:6]}) == 6


def test_budgets_are_written_as_plain_numbers():
  series = {"a": [(50, 0.5, 0.1), (200, 0.6, 0.0)], "b": [(1000, 0.7, 0.0)]}
  svg, _ = plots.budget_curves('"F1"', series, {"all labels": 0.8}, "F1")
  texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
  assert [text for text in texts if text.isdigit()] == ["50", "200", "1000"]
  assert "mathdefault" not in svg
  assert 'aria-label="&quot;F1&quot;"' in svg

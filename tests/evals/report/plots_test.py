"""Series of a plot can be told apart."""

import re

from ssljax.evals.report import plots


def test_no_two_of_thirty_series_look_alike():
  looks = {str(plots.look(k)) for k in range(30)}
  assert len(looks) == 30
  assert len({plots.look(k)["color"] for k in range(6)}) == 6
  assert len({str(plots.look(k)["linestyle"]) for k in range(6)}) == 6


def test_budgets_are_written_as_numbers():
  series = {"a": [(50, 0.5, 0.1), (200, 0.6, 0.0)], "b": [(1000, 0.7, 0.0)]}
  svg = plots.budgets(series, {"all labels": 0.8}, "f1")
  said = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
  assert [one for one in said if one.isdigit()] == ["50", "200", "1000"]
  assert "mathdefault" not in svg

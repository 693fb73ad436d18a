"""Texts survive spreadsheets, or a change of them is reported."""

import pytest

from ssljax.data.records.selected import CHECK, check_value, protect, restore
from ssljax.errors import UserError

TEXTS = [
  *(
    "=1+1",
    "+1",
    "-1",
    "@x",
    "'=1+1",
    "''=1",
    "'",
    "' quoted'",
    " =x",
    "\t=x",
    "=x\ny",
  ),
  *("N/A", "null", "None ", "nan"),
  *(
    "007",
    "1-2",
    "May 5",
    "1e5",
    "1" * 60,
    "TRUE",
    "true ",
    "0.10",
    "12:30",
    "3/4",
    "\uff1d1+1",
  ),
  *("a", "a,b", 'a "b"', "a\nb", "a\r\nb", " a ", "日本語\n، العربية", "😀", "Zażółć"),
]
SPREADSHEETS = {
  "keeps all cells": lambda cell: cell,
  "removes an apostrophe": lambda cell: cell[1:] if cell[:1] == "'" else cell,
  "writes other line ends": lambda cell: cell.replace("\r\n", "\n"),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("response", [None, "=r", "'r", "fine"])
@pytest.mark.parametrize("spreadsheet", SPREADSHEETS)
def test_texts_come_back_unchanged(text, response, spreadsheet):
  change = SPREADSHEETS[spreadsheet]
  row = {"id": "1", "text": text, "response": response}
  cells = {name: change(protect(value)) for name, value in row.items()}
  cells[CHECK] = check_value("1", text, response)
  back = restore(cells, "here")
  expected = text.replace("\r\n", "\n") if "line ends" in spreadsheet else text
  assert [back[name] for name in row] == ["1", expected, response]


@pytest.mark.parametrize("text", TEXTS)
def test_no_cell_is_computed_or_converted(text):
  cell = protect(text)
  assert cell.lstrip(" ")[0] not in "=+-@\t\uff1d"
  assert cell.strip().casefold() not in ("n/a", "null", "none", "nan")  # for pandas
  try:
    float(cell)
  except ValueError:
    pass
  else:
    pytest.fail(f"{cell!r} would be read as a number")


@pytest.mark.parametrize("name", ["id", "text", "response"])
def test_a_changed_cell_is_reported_with_its_place(name):
  row = {"id": "a", "text": "b" * 50, "response": "c"}
  row[CHECK] = check_value(*row.values())
  assert restore(row, "here") == row
  with pytest.raises(UserError, match=f"here: .* has changed.* empty its cell {CHECK}"):
    restore({**row, name: row[name][:-1] + "x"}, "here")
  changed = {**row, name: "x", CHECK: ""}  # on purpose
  assert restore(changed, "here") == changed

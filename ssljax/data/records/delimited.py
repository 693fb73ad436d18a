"""Reads the header and the rows of CSV and TSV, with the text of each row as it was.

The columns of a .csv file are separated by commas, by the character of a first line
such as `sep=;`, or by semicolons or tabs if the header has these and no comma. Cells
are quoted as in RFC 4180, also in TSV.
"""

import csv
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ssljax.errors import UserError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}


class Row(NamedTuple):
  number: int  # of the line where the row starts
  cells: list[str]  # one for each of `Table.names`
  raw: str  # the text of the row, with quotes, without the last line end


class Table:
  """A CSV or TSV file, read row by row.

  Attributes:
    separator: the character between two cells.
    names: the columns, without white space around their names; [] for an empty file.
      If several at the end have no name, as in the export of a spreadsheet, they are
      left out, and must be empty.
    header: the row with the names; None for an empty file.
    preamble: a line before the header, such as "sep=;"; "" if there is none.
    line_end: "\\r\\n" or "\\n".
  """

  def __init__(
    self,
    lines: Iterable[tuple[int, str]],
    where: Callable[[int], str],
    suffix: str,
    blank_rows: bool = False,
  ):
    """Reads the header.

    Args:
      lines: pairs of number and line, with line ends.
      where: maps the number of a line to the place that an error names.
      suffix: ".csv" or ".tsv".
      blank_rows: if there is only one column, read blank lines as empty cells, except
        at the end of the file. Otherwise, blank lines are ignored.

    Raises:
      UserError: the header isn't valid CSV, has a column twice, or doesn't show which
        character separates the columns.
    """
    csv.field_size_limit(sys.maxsize)  # the default rejects texts above 128 KiB
    self._lines, self._where = iter(lines), where
    self._held: list[str] = []  # lines of the row that is being read
    self._number, self._blank_rows = 1, blank_rows
    first = next(self._lines, (1, ""))[1]
    self.line_end = "\r\n" if first.endswith("\r\n") else "\n"
    self.preamble = ""
    self.separator = SEPARATORS[suffix]
    if match := re.fullmatch(r"sep=(.)", first.rstrip("\r\n"), re.IGNORECASE):
      self.preamble, self.separator = first.rstrip("\r\n"), match[1]
      first = next(self._lines, (1, ""))[1]
      self._number = 2
    else:
      self.separator = _find_separator(first, suffix, where(1))
    self._reader = csv.reader(self._keep(first), strict=True, delimiter=self.separator)
    self.header = self._next() if first else None
    self.names = [cell.strip() for cell in self.header.cells] if self.header else []
    self._unnamed = 0  # trailing columns that spreadsheets add
    if self.names[-2:] == ["", ""] and any(self.names):
      named = max(i for i, name in enumerate(self.names, 1) if name)
      self._unnamed = len(self.names) - named
      del self.names[named:]
    for name in self.names:
      if self.names.count(name) > 1:
        raise UserError(
          f"{where(self.header.number)}: the header has column {name!r} twice; "
          "rename one"
        )

  def rows(self) -> Iterator[Row]:
    """Yields the rows after the header.

    Raises:
      UserError: a row isn't valid CSV, or has another number of cells than the header.
    """
    blank: list[Row] = []
    while self.header and (row := self._next()):
      if not row.cells:
        if self._blank_rows and len(self.names) + self._unnamed == 1:
          blank.append(row._replace(cells=[""]))
        continue
      columns = len(self.names) + self._unnamed
      if len(row.cells) != columns:
        what = NAMES.get(self.separator, repr(self.separator))
        raise UserError(
          f"{self._where(row.number)}: the row has {len(row.cells)} cells, but the "
          f"header has {columns} columns; quote cells that contain {what} or line "
          "breaks"
        )
      yield from blank
      blank.clear()
      yield self._without_unnamed(row) if self._unnamed else row

  def _without_unnamed(self, row: Row) -> Row:
    """The row without the cells of `_unnamed`, which must be empty."""
    named, rest = row.cells[: len(self.names)], row.cells[len(self.names) :]
    if content := "".join(rest).strip():
      raise UserError(
        f"{self._where(row.number)}: {content[:40]!r} is in a column without a name; "
        "name the column in the header, or empty it"
      )
    return row._replace(cells=named)

  def _next(self) -> Row | None:
    """The next row; None at the end of the file."""
    start = self._number
    self._held.clear()
    try:
      cells = next(self._reader, None)
    except csv.Error as error:
      if "new-line character" in str(error):
        raise UserError(
          f"{self._where(start)}: a line ends with a carriage return only; save the "
          "file with other line ends, or quote the cell that has one"
        ) from error
      raise UserError(
        f'{self._where(start)}: not valid CSV ({error}); quote cells with " and '
        "double the quotes inside them"
      ) from error
    self._number += len(self._held)
    if cells is None:
      return None
    raw = "".join(self._held)
    return Row(start, cells, raw.removesuffix("\n").removesuffix("\r"))

  def _keep(self, first: str) -> Iterator[str]:
    """The lines of the rows; adds each of them to `_held`."""
    if first:
      self._held.append(first)
      yield first
    for _, line in self._lines:
      self._held.append(line)
      yield line


def _find_separator(header: str, suffix: str, where: str) -> str:
  """The separator of a file whose header is, or starts with, this line."""
  unquoted = re.sub(r'"[^"]*"', "", header)
  used = [separator for separator in NAMES if separator in unquoted]
  usual = SEPARATORS[suffix]
  if usual in used or not used:
    return usual
  if len(used) > 1 or suffix == ".tsv":
    raise UserError(
      f"{where}: cannot tell what separates the columns; the header has "
      f"{' and '.join(NAMES[separator] for separator in used)}, but no {NAMES[usual]}; "
      f"save the file with {NAMES[usual]}, or rename it if its format is another one"
    )
  return used[0]

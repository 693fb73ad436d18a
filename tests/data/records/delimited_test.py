"""CSV and TSV: separators, blank lines, and rows as they were written."""

import pytest

from ssljax.data.records import files
from ssljax.data.records.read import read_file
from ssljax.errors import UserError

CONTENT = {  # each with the texts a,"b" and c;d, with the labels 1 and 0
  "commas.csv": 'text,label\n"a,""b""",1\nc;d,0\n',
  "semicolons.csv": 'text;label\n"a,""b""";1\n"c;d";0\n',
  "tabs.csv": 'text\tlabel\n"a,""b"""\t1\nc;d\t0\n',
  "named.csv": 'sep=;\r\ntext;label\r\n"a,""b""";1\r\n"c;d";0\r\n',
  "bar.csv": '\ufeffSEP=|\ntext|label\n"a,""b"""|1\nc;d|0',
  "quoted.csv": '"text";"label, of 2"\n"a,""b""";1\n"c;d";0\n',
  "tabs.tsv": 'text\tlabel\na,"b"\t1\nc;d\t0\n',
  "blank.csv": 'text,label\n\n"a,""b""",1\n\nc;d,0\n\n',
}


@pytest.mark.parametrize("name", CONTENT)
def test_the_separator_is_found(tmp_path, name):
  path = tmp_path / name
  path.write_text(CONTENT[name], encoding="utf-8", newline="")
  records = read_file(path)
  assert records.column("text") == ['a,"b"', "c;d"]
  if name != "quoted.csv":
    assert records.label.tolist() == [1, 0]


@pytest.mark.parametrize("name", CONTENT)
def test_the_lines_of_a_table_are_kept(tmp_path, name):
  path = tmp_path / name
  path.write_text(CONTENT[name], encoding="utf-8", newline="")
  table = files.open_delimited(path)
  lines = [table.preamble, table.header.raw, *(row.raw for row in table.rows())]
  written = CONTENT[name].removeprefix("\ufeff").splitlines()
  assert [line for line in lines if line] == [line for line in written if line]
  assert table.line_end == ("\r\n" if name == "named.csv" else "\n")


def test_a_row_with_line_breaks_names_its_first_line(tmp_path):
  path = tmp_path / "rows.csv"
  path.write_text('sep=;\ntext;label\n"a\r\n\nb";1\n"c\n";0;\n', newline="")
  rows = files.open_delimited(path).rows()
  assert next(rows) == (3, ["a\r\n\nb", "1"], '"a\r\n\nb";1')
  with pytest.raises(UserError, match=r"line 6: the row has 3 cells.*semicolons"):
    next(rows)


def test_blank_lines_of_a_single_column_can_be_rows(tmp_path):
  path = tmp_path / "rows.csv"
  path.write_text("text\na\n\n\nb\n\n\n")
  texts = lambda blank: [row.cells for row in files.open_delimited(path, blank).rows()]
  assert texts(False) == [["a"], ["b"]]
  assert texts(True) == [["a"], [""], [""], ["b"]]


def test_empty_columns_and_rows_that_a_spreadsheet_adds_are_left_out(tmp_path):
  path = tmp_path / "rows.csv"
  path.write_text("text;label;;\nkind;0;;\nrude;1;; \n;;;\n;;;\n")
  records = read_file(path)
  assert records.column("text") == ["kind", "rude"]
  assert records.label.tolist() == [0, 1]
  path.write_text("text;label;;\nkind;0;;\nrude;1;;a note\n")
  with pytest.raises(UserError, match="line 3: 'a note' is in a column without a name"):
    read_file(path)
  path.write_text("text;label;;\nkind;0\n")
  with pytest.raises(UserError, match=r"line 2: the row has 2 cells.* has 4 columns"):
    read_file(path)


def test_line_ends_of_old_macs_are_named(tmp_path):
  path = tmp_path / "rows.csv"
  path.write_text("text,label\rkind,0\rrude,1\r", newline="")
  with pytest.raises(
    UserError, match="line 1: a line ends with a carriage return only"
  ):
    read_file(path)

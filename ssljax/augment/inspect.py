"""Shows texts and their views side by side, in the terminal and as one HTML page.

Texts are untrusted. Invisible and control characters are escaped, so that they can't
control the terminal. The page also escapes markup.
"""

import contextlib
import itertools
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ssljax.augment import report, storage
from ssljax.errors import UserError
from ssljax.evals.report.html import VIEWS, check_report_path, render, write_report
from ssljax.runtime import lock
from ssljax.runtime.atomic import cannot_write

MAX_CHARACTERS = 600  # of a text in the terminal; the page shows the whole text


def show(data: str, kind: str, rows: int, split: str, output: str) -> int:
  """Prints texts with their views, and writes them to an HTML page.

  Args:
    data: dataset folder.
    kind: kind of views; "" shows all kinds.
    rows: number of texts, evenly spaced over the split.
    split: name of the split, such as "train".
    output: HTML file.

  Returns:
    The exit code.

  Raises:
    UserError: the dataset folder, split or kind doesn't exist, or the page can't be
      written.
    RunError: the disk is full.
  """
  folder = Path(data).expanduser().resolve()
  if not (folder / split).is_dir() and folder.is_dir():
    raise UserError(f"--split={split}: no such split in {data}")
  files = storage.check_dataset_folder(folder, (split,))[split]
  target = Path(output).expanduser()
  with lock.exclusive(target, "--output"):
    with _write_errors(target):
      check_report_path(target, views=True)
    records = _sample_or_say_what_there_is(data, files, kind, rows, split)
    page = render_page(folder, split, records)
    with _write_errors(target):
      write_report(target, page)
  width = shutil.get_terminal_size((100, 24)).columns
  for record in records:
    print("\n".join(format_columns(record, min(width, 160))))
  print(f"{len(records)} texts; open {target} to see them in full")
  return 0


@contextlib.contextmanager
def _write_errors(target: Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    raise cannot_write(f"--output={target}", error, "choose another file") from None


def _sample_or_say_what_there_is(
  data: str, files: Sequence[Path], kind: str, rows: int, split: str
) -> list[dict]:
  """`sample`, or a UserError that lists the kinds."""
  records = sample(files, kind, rows)
  if not records:
    kinds = ", ".join(_kinds(sample(files, "", 100)))
    raise UserError(
      f"{data}: no views{f' of kind {kind!r}' if kind else ''} in {split}; available "
      f"kinds: {kinds or 'none; add some with python -m ssljax.augment'}"
    )
  return records


def sample(files: Sequence[Path], kind: str, rows: int) -> list[dict]:
  """Reads up to `rows` evenly spaced rows that have views of a kind ("": any kind).

  Views of other kinds are removed from these rows.
  """
  total = sum(pq.read_metadata(path).num_rows for path in files)
  wanted = np.linspace(0, total, rows, endpoint=False).astype(int).tolist()
  records, begin = [], 0
  for path in files:
    for table in storage.read_tables(path, 1024, ["id", "text", "response", "views"]):
      if len(records) == rows:
        return records
      if begin + table.num_rows > wanted[len(records)]:
        for i, record in enumerate(table.to_pylist(), begin):
          views = [v for v in record["views"] or () if kind in ("", v["kind"])]
          if len(records) < rows and i >= wanted[len(records)] and views:
            records.append({**record, "views": views})
      begin += table.num_rows
  return records


def escape_invisible(text: str) -> str:
  """Escapes characters that are invisible or control a terminal, except newlines."""
  return "".join(
    c if c == "\n" or c.isprintable() else f"\\u{ord(c):04x}"
    for c in text.replace("\r\n", "\n").replace("\t", "  ")
  )


def format_columns(record: dict, width: int) -> list[str]:
  """Formats a text (left) and its views (right) in lines of `width` characters."""
  column = max(20, (width - 3) // 2)
  lines = ["-" * (2 * column + 3)]
  left = _wrap(record["id"], record, column)
  for view in record["views"]:
    right = _wrap(f"{view['kind']} ({view['origin']})", view, column)
    for a, b in itertools.zip_longest(left, right, fillvalue=""):
      lines.append(f"{a[:column]:<{column}} | {b[:column]}".rstrip())
    lines.append("")
  return lines


def _wrap(title: str, row: dict, width: int) -> list[str]:
  lines, text, response = [escape_invisible(title)], row["text"], row["response"]
  for part in (text,) if response is None else (text, "  response:", response):
    short = part if len(part) <= MAX_CHARACTERS else part[:MAX_CHARACTERS] + " …"
    for line in escape_invisible(short).split("\n"):
      lines += textwrap.wrap(line, width) or [""]
  return lines


def render_page(folder: Path, split: str, records: Sequence[dict]) -> str:
  """Renders one self-contained HTML page without scripts."""
  sections = []
  for kind in _kinds(records):
    counts, dropped = report.read(folder, kind).get("counts"), []
    path = folder / report.FOLDER / f"{kind}-dropped.parquet"
    if path.exists():
      for table in itertools.islice(storage.read_tables(path, len(records)), 1):
        dropped = table.to_pylist()
    sections.append({"kind": kind, "counts": counts, "dropped": dropped})
  return render(
    "views.html",
    title=escape_invisible(f"{VIEWS}{folder.name}, {split}"),
    sections=sections,
    records=records,
    visible=escape_invisible,
  )


def _kinds(records: Sequence[dict]) -> list[str]:
  return list(dict.fromkeys(v["kind"] for record in records for v in record["views"]))

"""Shows texts and their views side by side: on one HTML page, or in the terminal."""

import contextlib
import itertools
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

from ssljax.augment import storage, view_sample
from ssljax.augment.views_page import escape_invisible, render_page
from ssljax.errors import UserError
from ssljax.evals.report.html import check_report_path, write_report
from ssljax.runtime import lock
from ssljax.runtime.atomic import cannot_write

MAX_CHARACTERS = 600  # of a text in the terminal
IN_TERMINAL, ON_PAGE = 20, 100  # default number of texts


def show(
  data: str,
  kind: str,
  rows: int | None = None,
  split: str = "train",
  output: str | None = None,
  seed: int = 0,
) -> int:
  """Writes texts with their views to an HTML page, or prints them if there's no page.

  Args:
    data: dataset folder.
    kind: kind of views; "" shows all kinds.
    rows: number of texts, drawn at random; by default ON_PAGE or IN_TERMINAL. The page
      also shows up to this many dropped candidates of other texts, for each kind.
    split: name of the split, such as "train".
    output: HTML file.
    seed: of the random draws.

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
  paths = storage.check_dataset_folder(folder, (split,))[split]
  if not output:
    sample = _sample(data, paths, kind, rows or IN_TERMINAL, split, seed)
    width = min(shutil.get_terminal_size((100, 24)).columns, 160)
    for record in sample.rows:
      print("\n".join(format_columns(record, width)))
    print(f"{_shown(sample)}; for a page of them, give --output=views.html")
    return 0
  number = rows or ON_PAGE
  target = Path(output).expanduser()
  with lock.exclusive(target, "--output"):
    with _write_errors(target):
      check_report_path(target, views=True)
    sample = _sample(data, paths, kind, number, split, seed)
    page = render_page(folder, split, kind, paths, sample, number, seed)
    with _write_errors(target):
      write_report(target, page)
  print(f"{_shown(sample)}: {target}")
  return 0


def _shown(sample: view_sample.Sample) -> str:
  return f"{len(sample.rows):,} of {sample.rows_with_views:,} texts with views"


@contextlib.contextmanager
def _write_errors(target: Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    raise cannot_write(f"--output={target}", error, "choose another file") from None


def _sample(
  data: str, paths: list[Path], kind: str, rows: int, split: str, seed: int
) -> view_sample.Sample:
  """`sample_rows`; a UserError that lists the kinds if no row has such views."""
  sample = view_sample.sample_rows(paths, kind, rows, seed)
  if not sample.rows:
    kinds = ", ".join(sample.kinds)
    raise UserError(
      f"{data}: no views{f' of kind {kind!r}' if kind else ''} in {split}; available "
      f"kinds: {kinds or 'none; add some with python -m ssljax.augment'}"
    )
  return sample


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

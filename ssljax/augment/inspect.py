"""Texts and their views side by side, in the terminal and as one HTML page.

A text is shown, never obeyed: control characters do not reach the terminal, markup does
not reach the page, and what cannot be seen is written out.
"""

import html
import itertools
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ssljax.augment import report, storage
from ssljax.augment.run import REPORTS
from ssljax.errors import UserError

CUT = 600  # characters of a text in the terminal; the page has all

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 80em;
  padding: 0 1em; }}
table {{ border-collapse: collapse; width: 100%; table-layout: fixed; }}
th, td {{ border: 1px solid #8886; padding: .5em .7em; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; white-space: pre-wrap; }}
th {{ background: #8882; white-space: normal; }}
.about {{ opacity: .7; font-size: 85%; display: block; }}
.counts td {{ border: 0; padding: .1em .7em; }} .counts {{ width: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def show(data: str, kind: str, rows: int, split: str, output: str) -> int:
  """Prints texts with their views and writes the page.

  Args:
    kind: of the views; "" shows every kind.
    rows: how many texts, evenly spaced over the split.
    output: of the page; "" is inspect.html.

  Raises:
    UserError: no dataset folder, or no such split.
  """
  path = Path(data).expanduser().resolve()
  if not (path / split).is_dir() and path.is_dir():
    raise UserError(f"--split={split}: no such split in {data}")
  parts = storage.check(path, (split,))[split]
  found = sample(parts, kind, rows)
  if not found:
    others = dict.fromkeys(
      v["kind"] for row in sample(parts, "", 100) for v in row["views"]
    )
    raise UserError(
      f"{data}: no views{f' of kind {kind!r}' if kind else ''} in {split}; there are "
      f"{', '.join(others) or 'none; make some with python -m ssljax.augment'}"
    )
  kinds = dict.fromkeys(view["kind"] for row in found for view in row["views"])
  target = Path(output or "inspect.html").expanduser()
  if target.suffix != ".html":
    raise UserError(f"--output={output}: give the page a name that ends in .html")
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(path, split, found, list(kinds)), encoding="utf-8")
  except OSError as error:
    raise UserError(
      f"--output={target}: cannot be written ({error}); name another file"
    ) from None
  width = shutil.get_terminal_size((100, 24)).columns
  for row in found:
    print("\n".join(side_by_side(row, min(width, 160))))
  print(f"{len(found)} texts; the page is {target}")
  return 0


def sample(parts: Sequence[Path], kind: str, rows: int) -> list[dict]:
  """Up to `rows` rows that have views of the kind; their other views left out."""
  total = sum(pq.read_metadata(part).num_rows for part in parts)
  wanted = np.linspace(0, total, rows, endpoint=False).astype(int).tolist()
  found, row = [], 0
  for part in parts:
    with pq.ParquetFile(part, buffer_size=1 << 20) as file:
      for batch in file.iter_batches(1024, columns=["id", "text", "response", "views"]):
        if len(found) == rows:
          return found
        if row + batch.num_rows > wanted[len(found)]:
          for i, record in enumerate(batch.to_pylist(), row):
            views = [
              v for v in record["views"] or () if v["kind"] == (kind or v["kind"])
            ]
            if len(found) < rows and i >= wanted[len(found)] and views:
              found.append({**record, "views": views})
        row += batch.num_rows
  return found


def visible(text: str) -> str:
  """The text with all that cannot be seen, or that steers a terminal, written out."""
  return "".join(
    c if c == "\n" or c.isprintable() else f"\\u{ord(c):04x}"
    for c in text.replace("\r\n", "\n").replace("\t", "  ")
  )


def side_by_side(row: dict, width: int) -> list[str]:
  """Lines of a terminal: the text left, a view right."""
  column = max(20, (width - 3) // 2)
  lines = ["-" * (2 * column + 3)]
  for view in row["views"]:
    heads = (row["id"], f"{view['kind']} ({view['origin']})")
    left, right = (
      [visible(head), *_wrapped(text, response, column)]
      for head, text, response in (
        (heads[0], row["text"], row["response"]),
        (heads[1], view["text"], view["response"]),
      )
    )
    for a, b in itertools.zip_longest(left, right, fillvalue=""):
      lines.append(f"{a[:column]:<{column}} | {b[:column]}".rstrip())
    lines.append("")
  return lines


def _wrapped(text: str, response: str | None, width: int) -> list[str]:
  lines = []
  for part in (text, response):
    if part is None:
      continue
    if lines:
      lines.append("  response:")
    shown = visible(part if len(part) <= CUT else part[:CUT] + " …")
    for line in shown.split("\n"):
      lines += textwrap.wrap(line, width) or [""]
  return lines


def page(path: Path, split: str, rows: Sequence[dict], kinds: Sequence[str]) -> str:
  """One HTML page that needs no other file and runs no script."""
  body = []
  for kind in kinds:
    found = report.read(path / REPORTS, kind)
    body.append(f"<h2>{_safe(kind)}</h2>")
    if counts := found.get("counts"):
      cells = "".join(
        f"<tr><td>{_safe(name)}</td><td>{_safe(str(n))}</td></tr>"
        for name, n in counts.items()
      )
      body.append(f'<table class="counts">{cells}</table>')
    body.append("<table><tr><th>text</th><th>view</th></tr>")
    for row in rows:
      for view in row["views"]:
        if view["kind"] == kind:
          left = _cell(row["id"], row["text"], row["response"])
          right = _cell(view["origin"], view["text"], view["response"])
          body.append(f"<tr>{left}{right}</tr>")
    body.append("</table>")
    body += _dropped(path / REPORTS / f"{kind}-dropped.parquet", len(rows))
  title = f"Views of {_safe(path.name)}, {_safe(split)}"
  return PAGE.format(title=title, body="\n".join(body))


def _dropped(path: Path, rows: int) -> list[str]:
  """The first few that the filters dropped."""
  if not path.exists():
    return []
  with pq.ParquetFile(path) as file:
    batch = next(file.iter_batches(rows), None)
  if batch is None or not batch.num_rows:
    return []
  lines = [
    "<h3>dropped, the first ones</h3>",
    "<table><tr><th>why</th><th>view</th></tr>",
  ]
  for row in batch.to_pylist():
    about = f"{row['id']}, candidate {row['number'] + 1}"
    lines.append(
      f"<tr>{_cell(about, row['reason'], None)}"
      f"{_cell(row['origin'], row['text'], row['response'])}</tr>"
    )
  return [*lines, "</table>"]


def _cell(about: str | None, text: str | None, response: str | None) -> str:
  parts = [f'<span class="about">{_safe(about or "")}</span>{_safe(text or "")}']
  if response is not None:
    parts.append(f'<span class="about">response</span>{_safe(response)}')
  return f'<td dir="auto">{"".join(parts)}</td>'


def _safe(text: str) -> str:
  return html.escape(visible(text))

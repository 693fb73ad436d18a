"""Shows texts and their views side by side, in the terminal and as one HTML page.

Texts are untrusted: invisible and control characters are escaped, so that they can't
steer the terminal, and markup is escaped in the page.
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
from ssljax.errors import UserError
from ssljax.runtime.atomic import atomic_file

MAX_CHARACTERS = 600  # of a text in the terminal; the page shows all of it

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
  """Prints texts with their views, and writes them to a page.

  Args:
    data: dataset folder.
    kind: kind of views; "" shows all kinds.
    rows: number of texts, evenly spaced over the split.
    split: such as "train".
    output: HTML file; "" is inspect.html.

  Returns:
    The exit code.

  Raises:
    UserError: no such dataset folder, split or kind, or the page can't be written.
  """
  folder = Path(data).expanduser().resolve()
  if not (folder / split).is_dir() and folder.is_dir():
    raise UserError(f"--split={split}: no such split in {data}")
  files = storage.check_dataset_folder(folder, (split,))[split]
  records = sample(files, kind, rows)
  if not records:
    kinds = dict.fromkeys(
      view["kind"] for record in sample(files, "", 100) for view in record["views"]
    )
    available = ", ".join(kinds) or "none; add some with python -m ssljax.augment"
    raise UserError(
      f"{data}: no views{f' of kind {kind!r}' if kind else ''} in {split}; available "
      f"kinds: {available}"
    )
  target = Path(output or "inspect.html").expanduser()
  if target.suffix != ".html":
    raise UserError(f"--output={output}: the name of the page must end in .html")
  try:
    with atomic_file(target) as file:
      file.write(render_page(folder, split, records).encode())
  except OSError as error:
    raise UserError(
      f"--output={target}: cannot be written ({error}); choose another file"
    ) from None
  width = shutil.get_terminal_size((100, 24)).columns
  for record in records:
    print("\n".join(format_columns(record, min(width, 160))))
  print(f"{len(records)} texts; open {target} to see them in full")
  return 0


def sample(files: Sequence[Path], kind: str, rows: int) -> list[dict]:
  """Reads up to `rows` evenly spaced rows that have views of a kind.

  Args:
    kind: "" for any; other views of the rows are left out.
  """
  total = sum(pq.read_metadata(path).num_rows for path in files)
  wanted = np.linspace(0, total, rows, endpoint=False).astype(int).tolist()
  records, begin = [], 0
  for path in files:
    with pq.ParquetFile(path, buffer_size=1 << 20) as file:
      for batch in file.iter_batches(1024, columns=["id", "text", "response", "views"]):
        if len(records) == rows:
          return records
        if begin + batch.num_rows > wanted[len(records)]:
          for i, record in enumerate(batch.to_pylist(), begin):
            views = [
              v for v in record["views"] or () if v["kind"] == (kind or v["kind"])
            ]
            if len(records) < rows and i >= wanted[len(records)] and views:
              records.append({**record, "views": views})
        begin += batch.num_rows
  return records


def escape_invisible(text: str) -> str:
  """Escapes characters that are invisible or control a terminal, except newlines."""
  return "".join(
    c if c == "\n" or c.isprintable() else f"\\u{ord(c):04x}"
    for c in text.replace("\r\n", "\n").replace("\t", "  ")
  )


def format_columns(record: dict, width: int) -> list[str]:
  """Formats a text (left) and its views (right) for a terminal `width` wide."""
  column = max(20, (width - 3) // 2)
  lines = ["-" * (2 * column + 3)]
  for view in record["views"]:
    left, right = (
      [escape_invisible(title), *_wrap(row["text"], row["response"], column)]
      for title, row in (
        (record["id"], record),
        (f"{view['kind']} ({view['origin']})", view),
      )
    )
    for a, b in itertools.zip_longest(left, right, fillvalue=""):
      lines.append(f"{a[:column]:<{column}} | {b[:column]}".rstrip())
    lines.append("")
  return lines


def _wrap(text: str, response: str | None, width: int) -> list[str]:
  lines = []
  for part in (text, response):
    if part is None:
      continue
    if lines:
      lines.append("  response:")
    short = part if len(part) <= MAX_CHARACTERS else part[:MAX_CHARACTERS] + " …"
    for line in escape_invisible(short).split("\n"):
      lines += textwrap.wrap(line, width) or [""]
  return lines


def render_page(folder: Path, split: str, records: Sequence[dict]) -> str:
  """Renders one self-contained HTML page without scripts."""
  body = []
  for kind in dict.fromkeys(v["kind"] for record in records for v in record["views"]):
    body.append(f"<h2>{_escape(kind)}</h2>")
    if counts := report.read(folder, kind).get("counts"):
      cells = "".join(
        f"<tr><td>{_escape(name)}</td><td>{_escape(str(n))}</td></tr>"
        for name, n in counts.items()
      )
      body.append(f'<table class="counts">{cells}</table>')
    body.append("<table><tr><th>text</th><th>view</th></tr>")
    for record in records:
      for view in record["views"]:
        if view["kind"] == kind:
          left = _cell(record["id"], record["text"], record["response"])
          right = _cell(view["origin"], view["text"], view["response"])
          body.append(f"<tr>{left}{right}</tr>")
    body.append("</table>")
    dropped = folder / report.FOLDER / f"{kind}-dropped.parquet"
    body += _dropped_table(dropped, len(records))
  title = f"Views of {_escape(folder.name)}, {_escape(split)}"
  return PAGE.format(title=title, body="\n".join(body))


def _dropped_table(path: Path, rows: int) -> list[str]:
  """Renders the first `rows` dropped candidates; [] if there are none."""
  if not path.exists():
    return []
  with pq.ParquetFile(path) as file:
    batch = next(file.iter_batches(rows), None)
  if batch is None or not batch.num_rows:
    return []
  lines = [
    "<h3>First dropped candidates</h3>",
    "<table><tr><th>reason</th><th>view</th></tr>",
  ]
  for row in batch.to_pylist():
    caption = f"{row['id']}, candidate {row['number'] + 1}"
    lines.append(
      f"<tr>{_cell(caption, row['reason'], None)}"
      f"{_cell(row['origin'], row['text'], row['response'])}</tr>"
    )
  return [*lines, "</table>"]


def _cell(caption: str | None, text: str | None, response: str | None) -> str:
  parts = [f'<span class="about">{_escape(caption or "")}</span>{_escape(text or "")}']
  if response is not None:
    parts.append(f'<span class="about">response</span>{_escape(response)}')
  return f'<td dir="auto">{"".join(parts)}</td>'


def _escape(text: str) -> str:
  return html.escape(escape_invisible(text))

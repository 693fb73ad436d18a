"""Templates filled in, and pages written, which replace nothing but pages of ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

# In the head of every page: the second one in that of a page from before the first.
MARKS = (
  b'<meta name="generator" content="ssljax">',
  b"content=\"default-src 'none'; style-src 'unsafe-inline'\"",
)


def render(name: str, **values: Any) -> str:
  """A template of this package with values; those of HTML are escaped."""
  import jinja2

  pages = jinja2.Environment(
    loader=jinja2.PackageLoader("ssljax.evals.report"),
    autoescape=name.endswith(".html"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
  )
  pages.filters |= {"number": number, "span": span, "signed": signed, "exact": exact}
  return pages.get_template(name).render(values)


def number(value: float | None, digits: int = 3) -> str:
  return "–" if value is None else f"{value:.{digits}f}"


def exact(value: float | None) -> str:
  """Of a threshold, which may be near 0 or 1."""
  return "–" if value is None else f"{value:.4g}" if value < 0.99 else f"{value:.7g}"


def span(interval: Sequence[float] | None) -> str:
  return "" if interval is None else "[{:.3f}, {:.3f}]".format(*interval)


def signed(value: float) -> str:
  return f"{value:+.3f}"


def check(path: Path) -> None:
  """Raises OSError where `write` would replace anything but a page of ours."""
  if path.is_dir():
    raise IsADirectoryError("it is a folder")
  if path.suffix != ".html":
    raise OSError("the name of a report ends in .html")
  if path.exists():
    with open(path, "rb") as file:
      head = file.read(4096).partition(b"</head>")[0]
    if not any(mark in head for mark in MARKS):
      raise FileExistsError("the file there is not known to be a report")


def write(path: Path, content: str) -> None:
  """The page is there whole or not at all; raises OSError, as `check` does."""
  check(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  fresh = path.with_name(f".new-{path.name}")
  fresh.write_text(content, encoding="utf-8", errors="replace")
  fresh.replace(path)

"""Renders templates, and writes reports without replacing files of other kinds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssljax import aims
from ssljax.runtime.atomic import atomic_file

# The head of every report contains this, whatever version of ssljax wrote it. A page of
# views also allows its script.
MARK = b"content=\"default-src 'none'; style-src 'unsafe-inline'"
VIEWS = "Views of "  # begins the title of a page of `ssljax.augment inspect`
METRIC_NAMES = {
  "accuracy": "Accuracy",
  "balanced_accuracy": "Balanced accuracy",
  "precision": "Precision",
  "recall": "Recall",
  "f1": "F1",
  "macro_f1": "Macro F1",
  "auroc": "AUROC",
  "auprc": "AUPRC",
  "ece": "ECE",
  "brier": "Brier score",
}


def render(template: str, **values: Any) -> str:
  """Fills in a template of this package; HTML templates escape the values."""
  import jinja2

  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("ssljax.evals.report"),
    autoescape=template.endswith(".html"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
  )
  for function in (number, threshold, interval, capitalize_first, aims.describe):
    environment.filters[function.__name__] = function
  return environment.get_template(template).render(values)


def number(value: float | None, digits: int = 3) -> str:
  return "–" if value is None else f"{value:.{digits}f}"


def threshold(value: float | None) -> str:
  """Formats a threshold with enough digits, even if it is close to 0 or 1."""
  return "–" if value is None else f"{value:.4g}" if value < 0.99 else f"{value:.7g}"


def interval(ends: Sequence[float] | None) -> str:
  return "" if ends is None else "[{:.3f}, {:.3f}]".format(*ends)


def capitalize_first(text: str) -> str:
  return text[:1].upper() + text[1:]


def check_report_path(path: Path, views: bool = False) -> None:
  """Checks that a page may be written to `path`.

  Args:
    views: whether it's a page of views (see VIEWS), or a report of runs. A page of one
      kind doesn't replace a page of the other.

  Raises:
    OSError: the path is a folder, doesn't end in .html, or is an existing file that
      isn't such a page.
  """
  if path.is_dir():
    raise IsADirectoryError("it is a folder")
  if path.suffix != ".html":
    raise OSError("the file name of a report must end in .html")
  if path.exists():
    with open(path, "rb") as file:
      head = file.read(4096).partition(b"</head>")[0]
    if MARK not in head:
      raise FileExistsError("the existing file is not a report of ssljax")
    if _has_views(head) != views:
      raise FileExistsError("the existing file is a report of another kind")


def write_report(path: Path, content: str) -> None:
  """Writes a page atomically; raises OSError like `check_report_path`."""
  page = content.encode("utf-8", errors="replace")
  check_report_path(path, _has_views(page.partition(b"</head>")[0]))
  with atomic_file(path) as file:
    file.write(page)


def _has_views(head: bytes) -> bool:
  return f"<title>{VIEWS}".encode() in head

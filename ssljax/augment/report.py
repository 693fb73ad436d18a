"""Reads and writes <folder>/augment/<kind>.json: counts, settings and origins of views.

Secrets are removed before anything is written.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssljax.runtime.json_files import write_json

FOLDER = "augment"  # inside the dataset folder
HIDDEN = "(hidden)"
SECRET = re.compile(
  r"(?i)(?:^|[_-])(?:key|token|secret|password|passwd|credentials?|authorization)$"
  r"|api[_-]?key|bearer"
)
MIN_SECRET = 6  # characters; shorter environment values may be plain words
_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@]*@")


def write(folder: Path, kind: str, report: Mapping[str, Any]) -> None:
  """Writes the report about views of one kind into the dataset folder."""
  write_json(folder / FOLDER / f"{kind}.json", scrub(report))


def read(folder: Path, kind: str) -> dict[str, Any]:
  """Reads the report about views of one kind; {} if it is missing or unreadable."""
  path = folder / FOLDER / f"{kind}.json"
  try:
    report = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return {}
  return report if isinstance(report, dict) else {}


def format_lines(report: Mapping[str, Any]) -> list[str]:
  """Formats the report as a table for the terminal."""
  usage = {f"engine: {name}": value for name, value in report["usage"].items()}
  rows = {**report["counts"], **usage, "seconds": report["seconds"]}
  width = max(map(len, rows))
  lines = [f"views of kind {report['kind']}, origin {report['origin']}"]
  for name, value in rows.items():
    value = round(value, 3) if isinstance(value, float) else value
    lines.append(f"  {name:<{width}} {value:>12,}")
  return lines


def sort_counts(counts: Counter[str]) -> dict[str, int]:
  """Sorts counts: totals, then intermediate steps, then the drops by number."""
  totals = ("texts", "views", "texts without a view", "fallbacks")

  def order(name: str) -> tuple[int, int]:
    if name in totals:
      return 0, totals.index(name)
    return (2, -counts[name]) if name.startswith("dropped: ") else (1, 0)

  return {name: counts[name] for name in sorted(counts, key=order)}


def secrets() -> list[str]:
  """Returns the values of environment variables that hold secrets, longest first."""
  values = [value.strip() for key, value in os.environ.items() if SECRET.search(key)]
  return sorted((v for v in values if len(v) >= MIN_SECRET), key=len, reverse=True)


def scrub(value: Any) -> Any:
  """Removes secrets and lone surrogates (which no file can hold) from JSON data.

  Secrets are the user and password in a URL, the values of keys with a name like
  "api_key", and the values of environment variables with such a name. The latter are
  removed wherever they occur.
  """
  hidden = secrets()

  def clean(value: Any) -> Any:
    if isinstance(value, Mapping):
      return {
        clean(str(k)): HIDDEN if SECRET.search(str(k)) and v else clean(v)
        for k, v in value.items()
      }
    if isinstance(value, list | tuple):
      return [clean(v) for v in value]
    if isinstance(value, str):
      value = _URL.sub(rf"\1{HIDDEN}@", value)
      for secret in hidden:
        value = value.replace(secret, HIDDEN)
      return value.encode(errors="replace").decode()
    return value

  return clean(value)

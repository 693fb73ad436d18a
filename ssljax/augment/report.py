"""What a run leaves beside the data: counts, settings and origins, never a secret."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HIDDEN = "(hidden)"
SECRET = re.compile(
  r"(?i)(?:^|[_-])(?:key|token|secret|password|passwd|credentials?|authorization)$"
  r"|api[_-]?key|bearer"
)
_SHORTEST = 6  # characters: shorter values of the environment would hide plain words
_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@]*@")


def write(folder: Path, kind: str, report: Mapping[str, Any]) -> None:
  """Writes `<kind>.json`, and keeps the origins that an older one explains."""
  path = folder / f"{kind}.json"
  text = json.dumps(scrub(dict(report)), indent=2, ensure_ascii=False) + "\n"
  path.write_text(text, encoding="utf-8", errors="replace")


def read(folder: Path, kind: str) -> dict[str, Any]:
  """What stands in `<kind>.json`; {} where there is none that can be read."""
  try:
    found = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}


def lines(report: Mapping[str, Any]) -> list[str]:
  """The report as a table for the terminal."""
  counts = report["counts"]
  usage = {f"engine: {name}": value for name, value in report["usage"].items()}
  rows = {**counts, **usage, "seconds": report["seconds"]}
  rows = {n: round(v, 3) if isinstance(v, float) else v for n, v in rows.items()}
  width = max(map(len, rows))
  head = f"views of kind {report['kind']}, origin {report['origin']}"
  return [head, *(f"  {name:<{width}} {value:>12,}" for name, value in rows.items())]


def ordered(counts: Counter) -> dict[str, int]:
  """Totals first, then how it came to them, then what was dropped, most first."""
  first = ("texts", "views", "texts without a view", "fallbacks")
  names = [name for name in first if name in counts]
  dropped = [name for name in counts if name.startswith("dropped: ")]
  dropped.sort(key=lambda name: (-counts[name], name))
  names += [name for name in counts if name not in {*names, *dropped}]
  return {name: int(counts[name]) for name in [*names, *dropped]}


def scrub(value: Any) -> Any:
  """JSON data without secrets.

  Hidden are values of keys that are named like secrets, user and password of a URL,
  and, wherever it stands, each value of the environment whose name is like a secret's.
  """
  known = sorted(
    {v for k, v in os.environ.items() if SECRET.search(k) and len(v) >= _SHORTEST},
    key=len,
    reverse=True,
  )

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
      for secret in known:
        value = value.replace(secret, HIDDEN)
    return value

  return clean(value)

"""Says which rows of a user's data are scored, and which aren't."""

import json
from pathlib import Path
from typing import Any

from ssljax.data.records import files, split_files
from ssljax.errors import UserError


def describe(data: Path, scored: int, trained_on: str) -> tuple[str, list[str]]:
  """Says how many rows are scored, and warns if that may not be what is meant.

  The files of train may be damaged.

  Args:
    data: a file, or a folder whose test split is scored.
    scored: number of rows that are scored.
    trained_on: the data of the run. If it's the folder, the test split is meant.

  Returns:
    (text, warnings): such as "all 97 rows".
  """
  if not data.is_dir():
    return f"all {scored} rows", _warn_of_training_rows(data, trained_on)
  try:
    splits = split_files.find_splits(str(data), complete=False)
    rows = {name: sum(map(files.count_rows, paths)) for name, paths in splits.items()}
  except UserError as error:
    reason = f"the rows of other splits can't be counted ({error})"
    return f"{scored} rows of test; {reason}", []
  others = {name: count for name, count in rows.items() if name != "test" and count}
  if not others:
    return f"all {scored} rows", []
  left_out = " and ".join(f"{count} of {name}" for name, count in others.items())
  total = f"{scored} of {sum(rows.values())} rows: the test split, without {left_out}"
  is_own = Path(trained_on).expanduser().resolve() == data.resolve()
  if is_own or not _is_divided(data):
    return total, []
  return total, [
    f"warning: `prepare` has divided the source of {data}, so most of its rows "
    "aren't scored; to score all of them, set --data to the file itself (--columns "
    "names its columns), or prepare it again with --as=test"
  ]


def _warn_of_training_rows(file: Path, trained_on: str) -> list[str]:
  """A warning if the run has been trained on rows of a file; [] if it's not known."""
  sources = [trained_on]
  for name, paths in (
    _read_about(Path(trained_on).expanduser()).get("files", {}).items()
  ):
    sources += paths if name == "train" else []
  if file.resolve() not in [Path(source).expanduser().resolve() for source in sources]:
    return []
  return [
    f"warning: the run was trained on rows of {file}, so the results are too good; "
    "leave --data out to score the run's test split"
  ]


def _is_divided(folder: Path) -> bool:
  """Whether `prepare` took a folder's test split from train."""
  about = _read_about(folder)
  # Version 0.1.0 says so only in its notes.
  old = any(
    "test (" in note and "from train" in note for note in about.get("notes", [])
  )
  return old or "test" in about.get("shares", {})


def _read_about(folder: Path) -> dict[str, Any]:
  """The content of a folder's dataset.json; {} if there is none, or another one."""
  try:
    about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    return about if isinstance(about, dict) else {}
  except (OSError, ValueError):
    return {}

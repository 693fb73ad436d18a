"""Which file is which split, by the words in the names of files and folders."""

import re
from collections.abc import Iterable
from pathlib import Path

from ssljax.data.records import files
from ssljax.errors import UserError

# Words that name a split, in a file's or a folder's name.
NAMES = {
  "train": ("train", "training"),
  "validation": ("validation", "val", "valid", "dev"),
  "test": ("test",),
}


def find(data: str, whole: bool = True) -> dict[str, list[Path]]:
  """The files of each split that `data` names, in the order of NAMES.

  Args:
    data: see `read_splits`. A single file is the train split.
    whole: False where splits may be missing, and a single file is the split that its
      name says.

  Raises:
    UserError: a missing file; no data file; a name that says no split, or two; a split
      that is given twice, or missing.
  """
  path = Path(data).expanduser()
  if path.is_dir() and data:
    found, where = _folder(path), str(path)
  elif path.exists() or "," not in data:
    if not data or not path.exists():
      raise UserError(
        f"{data or 'no data given'}: no such file or folder; give a folder or files "
        "with train, validation and test, or write one with "
        "`python -m ssljax.data.prepare`"
      )
    named = [] if whole else _named(path)
    return {named[0] if len(named) == 1 else "train": [path]}
  else:
    found, where = {}, data
    for part in filter(None, (part.strip() for part in data.split(","))):
      path = Path(part).expanduser()
      files.check(path)
      if len(_named(path)) != 1:
        raise UserError(
          f"{path}: the name does not say which split it is; put one of the words "
          "train, validation (val, dev) and test into it"
        )
      _add(found, _named(path)[0], [path])
  missing = [name for name in NAMES if name not in found] if whole or not found else []
  if missing:
    has = ", ".join(name for name in NAMES if name in found) or "none"
    raise UserError(
      f"{where}: no {' and no '.join(missing)} split (found: {has}); add a file such "
      f"as {missing[0]}.jsonl, or give one single file, which is split 70/10/20"
    )
  return {name: found[name] for name in NAMES if name in found}


def by_name(splits: Iterable[str]) -> dict[str, str]:
  """Our split -> the name among `splits` that is a word for it."""
  return {
    ours: theirs
    for ours, words in NAMES.items()
    for theirs in splits
    if theirs.lower() in words
  }


def _named(path: Path) -> list[str]:
  """The splits whose words stand in a file's name."""
  words = re.split(r"[\W_]+", files.stem(path).lower())
  return [name for name, known in NAMES.items() if set(known) & set(words)]


def _folder(folder: Path) -> dict[str, list[Path]]:
  found: dict[str, list[Path]] = {}
  for path in sorted(folder.iterdir()):
    stem = (files.stem(path) if path.is_file() else path.name).lower()
    name = next((n for n, known in NAMES.items() if stem in known), None)
    if name is None:
      continue
    if path.is_dir():
      parts = sorted(p for p in path.iterdir() if files.suffix(p) and p.is_file())
      if not parts:
        raise UserError(
          f"{path}: no data file in it; put .jsonl, .csv or .parquet files there"
        )
      _add(found, name, parts)
    elif files.suffix(path):
      _add(found, name, [path])
  return found


def _add(found: dict[str, list[Path]], name: str, paths: list[Path]) -> None:
  if name in found:
    raise UserError(
      f"{paths[0]}: a second file for the {name} split, beside {found[name][0]}; keep "
      f"one, or put all its parts into a folder {name}/"
    )
  found[name] = paths


def labelled_files(path: Path) -> list[Path]:
  """The files that `read_labelled` reads.

  Raises:
    UserError: a folder without a test split.
  """
  if not path.is_dir():
    return [path]
  paths = _folder(path).get("test", [])
  if not paths:
    raise UserError(
      f"{path}: no test split; give a file, or a folder with test/ or test.jsonl"
    )
  return paths

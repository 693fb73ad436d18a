"""Finds the files of the train, validation and test splits by their names."""

import re
from pathlib import Path

from ssljax.data.records import files
from ssljax.errors import UserError

# The words in names of files and folders that stand for each split.
SPLITS = {
  "train": ("train", "training"),
  "validation": ("validation", "val", "valid", "dev"),
  "test": ("test",),
}


def find_splits(data: str, complete: bool = True) -> dict[str, list[Path]]:
  """Finds the files of each split, in the order of SPLITS.

  Args:
    data: see `read_splits`. A single file is the train split.
    complete: False allows missing splits. The name of a single file then decides which
      split it is; the default is train.

  Raises:
    UserError: a missing file; no data file; a name that matches no split or more than
      one; a split that is missing or given twice.
  """
  path = Path(data).expanduser()
  if not data or (not path.exists() and "," not in data):
    raise UserError(
      f"{data or 'no data given'}: no such file or folder; give a folder or files "
      "with the splits train, validation and test, or write a folder with "
      "`python -m ssljax.data.prepare`"
    )
  if path.exists() and not path.is_dir():
    matches = [] if complete else _matching_splits(path)
    return {matches[0] if len(matches) == 1 else "train": [path]}
  paths = _folder_splits(path) if path.is_dir() else _listed_splits(data)
  missing = [name for name in SPLITS if name not in paths]
  if missing and (complete or not paths):
    present = ", ".join(name for name in SPLITS if name in paths) or "none"
    raise UserError(
      f"{data}: no {' and no '.join(missing)} split (found: {present}); add a file "
      f"such as {missing[0]}.jsonl, or give a single file, which is split 70/10/20"
    )
  return {name: paths[name] for name in SPLITS if name in paths}


def find_test_files(path: Path) -> list[Path]:
  """Returns the file itself, or the files of a folder's test split.

  Raises:
    UserError: the folder has no test split.
  """
  if not path.is_dir():
    return [path]
  paths = _folder_splits(path).get("test")
  if not paths:
    raise UserError(
      f"{path}: no test split; give a file, or a folder with test/ or test.jsonl"
    )
  return paths


def _matching_splits(path: Path) -> list[str]:
  """The splits that the words in the file's name stand for."""
  name_words = set(re.split(r"[\W_]+", files.stem(path).lower()))
  return [split for split, words in SPLITS.items() if name_words & set(words)]


def _listed_splits(data: str) -> dict[str, list[Path]]:
  """Finds the files of each split in a list separated by commas."""
  splits: dict[str, list[Path]] = {}
  for name in filter(None, (name.strip() for name in data.split(","))):
    path = Path(name).expanduser()
    files.check_format(path)
    matches = _matching_splits(path)
    if len(matches) != 1:
      raise UserError(
        f"{path}: the file name must contain exactly one of the words train, "
        "validation (val, dev) and test, to say which split it is; rename the file"
      )
    _add(splits, matches[0], [path])
  return splits


def _folder_splits(folder: Path) -> dict[str, list[Path]]:
  splits: dict[str, list[Path]] = {}
  for path in sorted(folder.iterdir()):
    stem = (files.stem(path) if path.is_file() else path.name).lower()
    name = next((name for name, words in SPLITS.items() if stem in words), None)
    if name is None:
      continue
    if path.is_dir():
      parts = sorted(p for p in path.iterdir() if files.suffix(p) and p.is_file())
      if not parts:
        raise UserError(
          f"{path}: the folder has no data file; put .jsonl, .csv or .parquet files "
          "there"
        )
      _add(splits, name, parts)
    elif files.suffix(path):
      _add(splits, name, [path])
  return splits


def _add(splits: dict[str, list[Path]], name: str, paths: list[Path]) -> None:
  if name in splits:
    raise UserError(
      f"{paths[0]}: a second file for the {name} split, in addition to "
      f"{splits[name][0]}; keep one of them, or put part files into a folder {name}/"
    )
  splits[name] = paths

"""Finds the files of the train, validation and test splits by their names."""

import functools
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ssljax.data.records import files
from ssljax.errors import UserError

# The words in names of files and folders that stand for each split.
SPLITS = {
  "train": ("train", "training"),
  "validation": ("validation", "val", "valid", "dev"),
  "test": ("test",),
}


SHOWN = 8  # number of files that an error or a note lists


class Shard(NamedTuple):
  """A part of a file, as on the Hub: `data/train-00000-of-00002.parquet`.

  Older datasets add a hash: `train-00000-of-00002-a1b2c3d4e5f60718.parquet`.
  """

  folder: Path
  stem: str  # train
  total: int  # 2
  number: int  # 0


def find_splits(data: str, complete: bool = True) -> dict[str, list[Path]]:
  """Finds the files of each split, in the order of SPLITS.

  Args:
    data: see `read_splits`. A single file is the train split.
    complete: False allows missing splits. The name of a single file then decides which
      split it is; the default is train.

  Raises:
    UserError: a missing file; no data file; a name that matches no split or more than
      one; a split that is missing or given twice; several configurations in a folder.
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
    if path.is_dir():
      present += _list_files(path)
    raise UserError(
      f"{data}: no {' and no '.join(missing)} split (found: {present}); add a file "
      f"such as {missing[0]}.jsonl, or give a single file, which is split 70/10/20"
    )
  return {name: paths[name] for name in SPLITS if name in paths}


def find_files(data: str) -> list[Path]:
  """A single file, or files separated by commas, whatever their names.

  Raises:
    UserError: a folder, a missing file, a file given twice, or an unknown format.
  """
  paths = [Path(name).expanduser() for name in (data, *data.split(","))]
  paths = paths[:1] if paths[0].exists() else paths[1:]
  for i, path in enumerate(paths):
    files.check_format(path)
    if path.resolve() in {other.resolve() for other in paths[:i]}:
      raise UserError(f"{path}: the file is given twice; give it once")
  return paths


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
      f"{path}: no test split{_list_files(path)}; give a file, or a folder with test/ "
      "or test.jsonl"
    )
  return paths


def is_prepared(data: str | Path) -> bool:
  """Whether `prepare` wrote this folder."""
  return (Path(data).expanduser() / "dataset.json").exists()


def describe_files(data: str, splits: Mapping[str, Sequence[Path]]) -> list[str]:
  """Notes for the log: which files of a folder were read, if that isn't obvious.

  Args:
    data: as for `find_splits`.
    splits: what `find_splits` returned.
  """
  folder = Path(data).expanduser()
  if not folder.is_dir() or is_prepared(data):
    return []
  used = set(itertools.chain(*splits.values()))
  notes = []
  inner = _folder_of_splits(folder)
  if inner != folder:
    counts = ", ".join(f"{name} {len(paths)}" for name, paths in splits.items())
    notes.append(f"{folder}: read the files in {inner} ({counts})")
  # Others may not be readable, such as lost+found.
  others = [path for path in _subfolders(folder) if os.access(path, os.R_OK | os.X_OK)]
  near = dict.fromkeys([folder, *others, inner])
  ignored = [
    path
    for path in itertools.chain(*map(_data_files, near))
    # A .json file is more likely to describe the data.
    if path not in used and files.suffix(path) != ".json"
  ]
  if ignored:
    notes.append(f"{folder}: ignored files: {_list_first(ignored, folder)}")
  return notes


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
  _check_shards(splits)
  return splits


def _folder_splits(folder: Path) -> dict[str, list[Path]]:
  """Finds the files of each split in a folder, or in a subfolder of it."""
  return _splits_in(_folder_of_splits(folder))


def _folder_of_splits(folder: Path) -> Path:
  """The folder that has the splits: itself, its `data/`, or its only configuration.

  A repository of the Hub has a folder for each configuration, perhaps in `data/`.

  Raises:
    UserError: several subfolders have splits.
  """
  for path in (folder, folder / "data"):
    if path.is_dir() and _splits_in(path, probe=True):
      return path
  near = _subfolders(folder)
  far = list(itertools.chain.from_iterable(map(_subfolders, near)))
  has_splits = functools.partial(_splits_in, probe=True)
  inner = [*filter(has_splits, near)] or [*filter(has_splits, far)]
  if len(inner) > 1:
    names = ", ".join(str(path.relative_to(folder)) for path in inner)
    raise UserError(
      f"{folder}: splits are in several subfolders ({names}), which may be "
      f"configurations of a dataset; give one of them, such as {inner[0]}"
    )
  return inner[0] if inner else folder


def _list_files(folder: Path) -> str:
  """The data files in a folder and two levels below, for an error message."""
  folders = [folder, *_subfolders(folder)]
  folders += itertools.chain.from_iterable(map(_subfolders, folders[1:]))
  found = [path for inner in folders for path in _data_files(inner)]
  if not found:
    return "; no data file"
  return f"; data files: {_list_first(found, folder)}"


def _list_first(paths: Sequence[Path], folder: Path) -> str:
  more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
  return ", ".join(str(path.relative_to(folder)) for path in paths[:SHOWN]) + more


def _subfolders(folder: Path) -> list[Path]:
  return sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")


def _splits_in(folder: Path, probe: bool = False) -> dict[str, list[Path]]:
  """Finds the files of each split directly in a folder.

  Args:
    probe: whether the folder may be another one than the user means. Its folder `test`
      may then hold anything, such as tests of a program.
  """
  splits: dict[str, list[Path]] = {}
  for path in sorted(folder.iterdir()):
    shard = _shard(path)
    stem = files.stem(path) if path.is_file() else path.name
    stem = (shard.stem if shard else stem).lower()
    name = next((name for name, words in SPLITS.items() if stem in words), None)
    if name is None:
      continue
    if path.is_dir():
      parts = _data_files(path)
      if not parts and probe:
        continue
      if not parts:
        raise UserError(
          f"{path}: the folder has no data file; put .jsonl, .csv, .tsv or .parquet "
          "files there"
        )
      _add(splits, name, parts)
    elif files.suffix(path):
      _add(splits, name, [path])
  _check_shards(splits)
  return splits


def _data_files(folder: Path) -> list[Path]:
  """The data files of a folder, sorted. Hidden ones, as macOS writes, aren't data."""
  if not folder.is_dir():
    return []
  paths = (path for path in folder.iterdir() if not path.name.startswith("."))
  return sorted(path for path in paths if files.suffix(path) and path.is_file())


def _shard(path: Path) -> Shard | None:
  match = re.fullmatch(r"(.+?)-(\d+)-of-(\d+)(-[0-9a-f]{16})?", files.stem(path))
  if not match or not files.suffix(path) or path.is_dir():
    return None
  return Shard(path.parent, match[1], int(match[3]), int(match[2]))


def _check_shards(splits: Mapping[str, Sequence[Path]]) -> None:
  """Refuses a set of shards that isn't complete, or that has a shard twice."""
  numbers: dict[Shard, dict[int, Path]] = {}
  for path in itertools.chain(*splits.values()):
    if not (shard := _shard(path)):
      continue
    same = numbers.setdefault(shard._replace(number=0), {})
    if shard.number in same:
      raise UserError(
        f"{path}: the same shard as {same[shard.number]}; keep one of them"
      )
    same[shard.number] = path
  for shard, present in numbers.items():
    if missing := sorted({*range(shard.total)} - present.keys()):
      raise UserError(
        f"{shard.folder}: {shard.stem} has {shard.total} shards, but shard "
        f"{missing[0]} is missing; add it, or rename the files if they are all of the "
        "data"
      )


def _add(splits: dict[str, list[Path]], name: str, paths: list[Path]) -> None:
  """Adds the files of a split; only shards of the same file can be added later."""
  present = splits.setdefault(name, [])
  if present:
    old, new = _shard(present[0]), _shard(paths[0])
    if not old or not new or old[:3] != new[:3]:
      raise UserError(
        f"{paths[0]}: a second file for the {name} split, in addition to "
        f"{present[0]}; keep one of them, or put part files into a folder {name}/"
      )
  present += paths

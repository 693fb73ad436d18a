"""Divides records into splits and writes a dataset folder, whole or not at all."""

import collections
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from ssljax.data import split
from ssljax.data.dedup import exact
from ssljax.data.records import checks, records, split_files
from ssljax.data.records.records import Records
from ssljax.errors import UserError

TRAIN_COPIES = "copies in train of rows of validation or test"
VALIDATION_COPIES = "copies in validation of rows of test"


class Raw(NamedTuple):
  """Records as the source divides them."""

  parts: Mapping[str, Records]  # any of train, validation, test
  labels: tuple[str, ...]  # class names by id; () to take them from the records
  dropped: collections.Counter  # rows left out, by reason
  about: Mapping[str, object]  # for dataset.json: source, licence, columns, …
  validation: float = 0.1  # part of train that becomes validation where there is none
  notes: tuple[str, ...] = ()  # for dataset.json and the log


def free(output: str | Path) -> Path:
  """The path of a folder that is yet to be; UserError where something is there."""
  output = Path(output).expanduser()
  if output.exists() or output.is_symlink():
    raise UserError(
      f"--output={output} exists already; remove it or name another folder"
    )
  return output


def write(raw: Raw, output: Path, seed: int) -> dict:
  """Divides, drops copies across splits, checks, and writes.

  Args:
    raw: what was read.
    output: the folder, which must not exist; it appears only when all of it is written.
    seed: of the splits that the source does not have.

  Returns:
    What stands in dataset.json.
  """
  dropped = raw.dropped.copy()
  parts, notes = _divide(_without_copies(raw.parts, dropped), raw.validation, seed)
  parts = {name: parts[name] for name in split_files.NAMES if name in parts}
  where = raw.about["source"]
  for name, part in parts.items():
    if not len(part):
      left = ", ".join(f"{n} rows: {why}" for why, n in dropped.items()) or "none"
      raise UserError(f"{where}: the {name} split has no rows (left out: {left})")
  labels = _labels(parts, raw.labels, str(where))
  if {"train", "test"} <= parts.keys():
    texts = parts["test"].table["text"].combine_chunks()
    if shared := pc.sum(pc.is_in(parts["train"].table["text"], texts)).as_py():
      notes.append(f"{shared} rows of train share their text with a row of test")
  about = {
    **raw.about,
    "seed": seed,
    "labels": list(labels),
    "rows": {name: _counts(part, labels) for name, part in parts.items()},
    "dropped": dict(dropped),
    "notes": [*raw.notes, *notes],
  }
  _store(parts, about, output)
  return about


def _without_copies(
  parts: Mapping[str, Records], dropped: collections.Counter
) -> dict[str, Records]:
  kept = dict(parts)
  for name, others, reason in (
    ("validation", ["test"], VALIDATION_COPIES),
    ("train", ["validation", "test"], TRAIN_COPIES),
  ):
    if name not in kept:
      continue
    against = exact.known(kept[other] for other in others if other in kept)
    copy = exact.rows(kept[name], against)[:, 0] >= 0
    if copy.any():
      dropped[reason] += int(copy.sum())
      kept[name] = kept[name].take(np.flatnonzero(~copy))
  return kept


def _divide(
  parts: dict[str, Records], validation: float, seed: int
) -> tuple[dict[str, Records], list[str]]:
  """Adds the splits that are missing, out of train, rows of one text together."""
  if list(parts) == ["test"]:
    return parts, ["only a test split: for python -m ssljax.evaluate, not for training"]
  if "train" not in parts:
    raise UserError(f"no train split (found: {', '.join(parts)}); name its file train")
  missing = {
    name: share
    for name, share in (
      ("validation", validation if "test" in parts else records.SHARES[1]),
      ("test", records.SHARES[2]),
    )
    if name not in parts
  }
  if not missing:
    return parts, []
  train = parts["train"]
  shares = (1 - sum(missing.values()), *missing.values())
  groups = split.group(train.column("text"))
  rows = split.divide(groups, train.label, shares, seed)
  divided = {
    name: train.take(some) for name, some in zip(("train", *missing), rows, strict=True)
  }
  said = " and ".join(f"{name} ({share:.1%})" for name, share in missing.items())
  note = f"{said} taken from train with seed {seed}, rows of the same text together"
  return {**parts, **divided}, [note]


def _labels(
  parts: Mapping[str, Records], names: tuple[str, ...], where: str
) -> tuple[str, ...]:
  checks.ids(list(parts.values()))
  if "train" not in parts:
    checks.all_labelled(parts["test"], "a test row needs one")
    found: dict[int, str] = {}
    checks.names_agree(parts["test"], found)
    top = int(parts["test"].label.max())
    return names or tuple(found.get(i, str(i)) for i in range(top + 1))
  labels = checks.labels(parts)
  if names and len(labels) < len(names):
    raise UserError(
      f"{where}: no row of train is {names[len(labels)]!r}; leave the name out of "
      "--labels, or check the label column"
    )
  return names or labels


def _counts(part: Records, labels: tuple[str, ...]) -> dict:
  label = part.label
  found = {name: int((label == i).sum()) for i, name in enumerate(labels)}
  if (label < 0).any():
    found["unlabelled"] = int((label < 0).sum())
  return {"all": len(part), **found}


def _store(parts: Mapping[str, Records], about: dict, output: Path) -> None:
  try:
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=output.parent, prefix=".new-"))
  except OSError as error:
    raise UserError(f"--output={output}: cannot be written ({error})") from error
  try:
    for name, part in parts.items():
      (temporary / name).mkdir()
      records.write_parquet(part, temporary / name / "part-0.parquet")
    text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    (temporary / "dataset.json").write_text(text, encoding="utf-8")
    temporary.chmod(0o755)  # mkdtemp's folders are private
    free(output)  # it may have come into being meanwhile
    os.rename(temporary, output)
  except OSError as error:
    raise UserError(
      f"--output={output}: cannot be written ({error}); free space or name "
      "another folder"
    ) from error
  finally:
    shutil.rmtree(temporary, ignore_errors=True)

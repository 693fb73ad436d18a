"""Divides records into splits, removes duplicates, and writes a dataset folder."""

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssljax.data.dedup import conflicts, exact
from ssljax.data.records import checks, selected, split_files
from ssljax.data.records.records import Records, write_parquet
from ssljax.data.records.schema import SCHEMA
from ssljax.data.sources import division
from ssljax.errors import UserError
from ssljax.runtime.atomic import atomic_folder, cannot_write
from ssljax.runtime.json_files import write_json

TRAIN_COPIES = "copies in train of rows of validation or test"
VALIDATION_COPIES = "copies in validation of rows of test"


class RawDataset(NamedTuple):
  """Records in the splits of their source."""

  splits: Mapping[str, Records]  # any of train, validation, test
  names: Mapping[int, str]  # class names by id
  dropped: collections.Counter  # dropped rows by reason
  about: Mapping[str, object]  # for dataset.json: source, licence, columns, …
  # Share of train, validation and test, for splits that the source lacks; None: that
  # of `division.choose_shares`.
  shares: Mapping[str, float] | None = None
  whole: bool = False  # whether no split is taken from train
  notes: Sequence[str] = ()  # for dataset.json and the log
  swap: str = ""  # the flag that exchanges two classes, to advise it


def check_is_new(output: str | Path) -> Path:
  """Returns the path of a folder to write; raises UserError if the path exists."""
  output = Path(output).expanduser()
  if output.exists() or output.is_symlink():
    raise UserError(f"--output={output} already exists; remove it or use another name")
  return output


def write_dataset(raw: RawDataset, output: Path, seed: int) -> dict:
  """Divides, deduplicates, checks and writes the records.

  Args:
    raw: the records and their description.
    output: the folder, which must not exist; it is written atomically.
    seed: for drawing the splits that the source doesn't have.

  Returns:
    The content of dataset.json.
  """
  dropped = raw.dropped.copy()
  _check_fair(raw.splits)
  kept = _remove_copies(raw.splits, dropped)
  splits, shares, notes = division.add_splits(kept, raw.shares, raw.whole, seed)
  splits = {name: splits[name] for name in split_files.SPLITS if name in splits}
  source = str(raw.about["source"])
  for name, rows in splits.items():
    if not len(rows):
      reasons = ", ".join(f"{n} rows: {why}" for why, n in dropped.items()) or "none"
      few = ""
      if name in shares:
        few = "; there are too few labelled rows to take it from: label more"
      raise UserError(
        f"{source}: the {name} split has no rows (dropped: {reasons}){few}"
      )
  labels = _class_names(splits, raw.names, source)
  splits = {name: _name_rows(rows, labels) for name, rows in splits.items()}
  notes += _warn_of_absent_classes(splits, shares, labels)
  if raw.swap:
    notes += filter(None, [checks.class_order_warning(labels, raw.swap)])
  notes += conflicts.describe_conflicts(raw.splits.values())
  if {"train", "test"} <= splits.keys():
    texts = splits["test"].table["text"].combine_chunks()
    if shared := pc.sum(pc.is_in(splits["train"].table["text"], texts)).as_py():
      notes.append(f"{shared} rows of train have the same text as a row of test")
  about = {
    **raw.about,
    "seed": seed,
    "shares": shares,
    "labels": list(labels),
    "rows": {name: _count_rows(rows, labels) for name, rows in splits.items()},
    "dropped": dict(dropped),
    "notes": [*raw.notes, *notes],
  }
  try:
    with atomic_folder(output) as folder:
      for name, rows in splits.items():
        write_parquet(rows, folder / name / "part-0.parquet")
      write_json(folder / "dataset.json", about)
      check_is_new(output)  # it may have appeared while we wrote
  except OSError as error:
    raise cannot_write(f"--output={output}", error, "use another folder") from error
  return about


def _warn_of_absent_classes(
  splits: Mapping[str, Records], taken: Collection[str], labels: Sequence[str]
) -> list[str]:
  """Warnings about classes without a text in a split that was taken from train."""
  notes = []
  for name in taken:
    count = np.bincount(splits[name].label, minlength=len(labels))
    if absent := [repr(labels[c]) for c in np.flatnonzero(count == 0)]:
      notes.append(
        f"warning: {name} has no text labelled {' or '.join(absent)}, of which there "
        "are too few, so it can't show how well this class is recognised; label more"
      )
  return notes


def _check_fair(splits: Mapping[str, Records]) -> None:
  """Refuses to judge models on texts that a model has chosen."""
  for name in ("validation", "test"):
    if name not in splits:
      continue
    chosen = selected.is_selected(splits[name])
    if chosen.any():
      row = int(chosen.argmax())
      raise UserError(
        f"{splits[name].location(row)}: ssljax.select chose this text ({chosen.sum()} "
        f"rows of {name} in all), so metrics and thresholds on it say nothing about "
        "other texts; put these rows into train, with --add=FILE, or empty their cells "
        "in the column source to use them all the same"
      )


def _remove_copies(
  splits: Mapping[str, Records], dropped: collections.Counter
) -> dict[str, Records]:
  """Removes rows of train and validation that are also in a later split."""
  kept = dict(splits)
  for name, others, reason in (
    ("validation", ["test"], VALIDATION_COPIES),
    ("train", ["validation", "test"], TRAIN_COPIES),
  ):
    if name not in kept:
      continue
    index = exact.index_digests(kept[other] for other in others if other in kept)
    if copies := exact.find_duplicates(kept[name], index):
      dropped[reason] += len(copies)
      rows = np.delete(np.arange(len(kept[name])), [row for row, _ in copies])
      kept[name] = kept[name].take(rows)
  return kept


def _class_names(
  splits: Mapping[str, Records], names: Mapping[int, str], source: str
) -> tuple[str, ...]:
  """Checks ids and labels; returns class names by id."""
  checks.check_unique_ids(list(splits.values()))
  if "train" in splits:
    classes = len(checks.check_labels(splits))
    for label, name in names.items():
      if label >= classes:
        raise UserError(
          f"{source}: no row of train is {name!r}; list only classes that have rows in "
          "--labels, or check the label column"
        )
  else:
    for name, rows in splits.items():
      checks.check_all_labelled(rows, f"every row of {name} needs a label")
    most = max(int(rows.label.max()) for rows in splits.values())
    classes = max([*names, most]) + 1
  return checks.name_all(names, classes, source)


def _name_rows(rows: Records, labels: tuple[str, ...]) -> Records:
  """Sets every label_name to the name of the class, unless that is only its number."""
  names = pa.array(
    [None if name == str(i) else name for i, name in enumerate(labels)],
    pa.large_string(),
  )
  column = rows.table.schema.get_field_index("label_name")
  table = rows.table.set_column(
    column, SCHEMA.field(column), pc.take(names, rows.table["label"])
  )
  return dataclasses.replace(rows, table=table)


def _count_rows(rows: Records, labels: tuple[str, ...]) -> dict:
  label = rows.label
  counts = {name: int((label == i).sum()) for i, name in enumerate(labels)}
  if (label < 0).any():
    counts["unlabelled"] = int((label < 0).sum())
  return {"all": len(rows), **counts}

"""Reads the pool, and the texts that must not be proposed again.

Never proposed are rows that have a label, and copies of a text that is labelled, or in
validation or test, of the run, of the pool's own folder, or in a file of `--against`.
"""

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax import run_config
from ssljax.data.dedup import exact
from ssljax.data.dedup.normalize import text_digest
from ssljax.data.records import split_files
from ssljax.data.records.files import read_rows
from ssljax.data.records.read import id_prefix, read_splits, read_texts
from ssljax.data.records.records import Records, Splits, concat
from ssljax.data.sources import convert
from ssljax.data.sources.build import resolve_data
from ssljax.errors import UserError

LABELLED = "have a label already"
COPIES = "are copies of other texts of the pool"
KNOWN = "are labelled, or in validation or test"


class Pool(NamedTuple):
  """The rows that may be proposed."""

  rows: Records  # all have different texts; labels and views are null
  labelled: Records  # the rows of the same files that have a label
  left_out: collections.Counter[str]  # reason -> number of rows


class _AnyLabel:
  """A label column of which only matters whether it's filled in."""

  names_only = 0

  def read(self, value: object, label_name: str | None, location: str) -> int | None:
    is_empty = lambda v: v is None or v != v or not str(v).strip()
    return None if is_empty(value) and is_empty(label_name) else 0


def read_pool(data: str, columns: Mapping[str, str]) -> Pool:
  """Reads a file of texts, or the train split of a dataset.

  Args:
    data: a file, a folder, a named source, or files separated by commas.
    columns: maps `id`, `text`, `response` or `label` to the name of that column.

  Raises:
    UserError: data that can't be read; a value of the wrong type; an id given twice.
  """
  for name in columns:
    if name not in convert.COLUMNS:
      raise UserError(
        f"--columns: unknown name {name!r}; use {', '.join(convert.COLUMNS)}"
      )
  data = resolve_data(data)
  paths_of = split_files.find_splits(data, complete=False)
  if Path(data).is_file():
    paths_of = {"train": [Path(data).expanduser()]}
  if "train" not in paths_of:
    raise UserError(f"--data={data}: no train split; give a file of texts")
  left_out: collections.Counter[str] = collections.Counter()
  is_labelled: list[bool] = []

  def to_record(row: Mapping, location: str) -> dict | str:
    record = convert.convert_columns(row, location, columns, _AnyLabel())
    if not isinstance(record, str):
      is_labelled.append(record.pop("label") is not None)
    return record

  parts = [
    convert.collect_records(
      ((path, *numbered) for numbered in read_rows(path)),
      to_record,
      id_prefix("train", path),
      left_out,
    )
    for path in paths_of["train"]
  ]
  records = concat(parts)
  has_label = np.array(is_labelled, bool)
  if has_label.any():
    left_out[LABELLED] = int(has_label.sum())
  rows = records.take(np.flatnonzero(~has_label))
  return Pool(rows, records.take(np.flatnonzero(has_label)), left_out)


def read_run_splits(workdir: Path, config: Mapping[str, Any]) -> Splits:
  """Reads the texts of a run; UserError if they aren't where they were."""
  try:
    return read_splits(resolve_data(config["data"]), config["seed"])
  except UserError as error:
    raise run_config.not_found(workdir, "data", error) from None


def read_against(pool: str, against: Sequence[str]) -> list[Records]:
  """Reads texts that must not be proposed, besides those of the run.

  Args:
    pool: `--data`. If it's a dataset, its validation and test splits are read.
    against: files, or datasets, of whose train split only labelled rows count.
  """
  texts = []
  for place in (pool, *against):
    data = resolve_data(place)
    if Path(data).expanduser().is_file():
      texts += [] if place is pool else [read_texts(data)]
      continue
    for name, paths in split_files.find_splits(data, complete=False).items():
      if name != "train":
        texts += map(read_texts, paths)
      elif place is not pool:
        texts.append(read_pool(data, {}).labelled)
  return texts


def labelled_rows(records: Records) -> Records:
  """The rows that have a label."""
  return records.take(np.flatnonzero(records.label >= 0))


def without_copies(pool: Pool, known: Sequence[Records]) -> Pool:
  """Leaves out copies of known texts and of earlier rows of the pool.

  Raises:
    UserError: no row is left.
  """
  index = exact.index_digests(known)
  seen: set[bytes] = set()
  kept, left_out = [], pool.left_out.copy()
  for row, _, text, response in exact.iterate_texts(pool.rows):
    digest = text_digest(text, response)
    if exact.find_duplicate(index, text, response):
      left_out[KNOWN] += 1
    elif digest in seen:
      left_out[COPIES] += 1
    else:
      seen.add(digest)
      kept.append(row)
  if not kept:
    listed = ", ".join(f"{count} rows {why}" for why, count in left_out.items())
    raise UserError(
      f"--data: no row can be proposed ({listed or 'there are none'}); give a pool "
      "with other, unlabelled texts"
    )
  return Pool(pool.rows.take(np.array(kept, np.int64)), pool.labelled, left_out)

"""Draws the rows, and the dropped candidates, that a page of views shows.

Columns that name kinds, ids and reasons are read in full. Texts are read only from row
groups that have a drawn row, so a page of a large dataset takes seconds.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssljax.augment.rows import DROPPED
from ssljax.data.records import files
from ssljax.errors import UserError

BATCH = 65536  # rows of the narrow columns that are read together


class Sample(NamedTuple):
  """Rows that have views, drawn at random."""

  rows: list[dict[str, Any]]  # in the order of the dataset
  rows_in_split: int
  rows_with_views: int  # of the kinds that are shown
  kinds: Counter[str]  # number of views of every kind in the split


def sample_rows(paths: Sequence[Path], kind: str, number: int, seed: int) -> Sample:
  """Draws up to `number` rows that have views of a kind ("": any kind).

  Views of other kinds are removed from these rows.

  Raises:
    UserError: a file is damaged.
  """
  with_views, kinds, total = [], Counter(), 0
  for path in paths:
    for batch in _read(path, [_kind_column(path)]):
      views = batch.column(0)
      names, rows = views.flatten().field("kind"), pc.list_parent_indices(views)
      kinds.update(dict(_pairs(names)))
      if kind:
        rows = rows.filter(pc.fill_null(pc.equal(names, kind), False))
      with_views.append(total + np.unique(rows.to_numpy(zero_copy_only=False)))
      total += len(batch)
  positions = np.concatenate([np.zeros(0, np.int64), *with_views])
  drawn = _draw(positions, number, seed)
  rows = take_rows(paths, drawn)
  for row in rows:
    row["views"] = [v for v in row["views"] if kind in ("", v["kind"])]
  return Sample(rows, total, len(positions), kinds)


class DroppedSample(NamedTuple):
  """Candidates of one kind that filters dropped in its latest run."""

  of_rows: dict[str, list[dict[str, Any]]]  # by id: all of them, for the ids asked for
  drawn: list[dict[str, Any]]  # in the order of the run
  by_reason: Counter[str]  # number of all candidates


def sample_dropped(
  path: Path,
  ids: Sequence[str],
  number: int,
  seed: int,
  split: pa.Array | None = None,
) -> DroppedSample:
  """Reads the dropped candidates of some rows, and draws others for every reason.

  Args:
    path: the file of the run, with the columns DROPPED. It may be missing.
    ids: of the rows of which all dropped candidates are returned.
    number: how many others to draw, shared among the reasons as equally as possible.
    split: ids of the split that is shown, if the run was on several splits.

  Raises:
    UserError: the file is damaged or has other columns.
  """
  if not path.exists():
    return DroppedSample({}, [], Counter())
  with files.open_parquet(path) as file:
    if not file.schema_arrow.equals(DROPPED):
      raise UserError(
        f"{path}: its columns aren't those of dropped candidates; delete the file, or "
        "run python -m ssljax.augment again"
      )
  wanted, begin = pa.array(ids, pa.large_string()), 0
  of_rows, others = [], {}
  by_reason: Counter[str] = Counter()
  for batch in _read(path, ["id", "reason"]):
    inside = np.ones(len(batch), bool)
    if split is not None:
      inside = _is_in(batch["id"], split)
    is_wanted = inside & _is_in(batch["id"], wanted)
    of_rows.append(begin + np.flatnonzero(is_wanted))
    reasons = batch["reason"].dictionary_encode()
    codes = reasons.indices.to_numpy(zero_copy_only=False)
    for code, reason in enumerate(reasons.dictionary.to_pylist()):
      has_reason = inside & (codes == code)
      by_reason[reason] += int(has_reason.sum())
      positions = begin + np.flatnonzero(has_reason & ~is_wanted)
      others.setdefault(reason, []).append(positions)
    begin += len(batch)
  drawn, left = [], number
  positions = sorted(map(np.concatenate, others.values()), key=len)
  for i, part in enumerate(positions):  # rare reasons leave their share to the others
    share = -(-left // (len(positions) - i))
    drawn.append(_draw(part, min(share, left), seed))
    left -= len(drawn[-1])
  none = np.zeros(0, np.int64)
  by_id: dict[str, list] = {}
  for row in take_rows([path], np.concatenate([none, *of_rows])):
    by_id.setdefault(row["id"], []).append(row)
  drawn_rows = take_rows([path], np.sort(np.concatenate([none, *drawn])))
  return DroppedSample(by_id, drawn_rows, +by_reason)


def find_rows(paths: Sequence[Path], ids: Sequence[str]) -> dict[str, dict[str, Any]]:
  """Reads the rows that have these ids; ids of other splits are missing."""
  wanted, found, begin = pa.array(ids, pa.large_string()), [], 0
  for path in paths:
    for batch in _read(path, ["id"]):
      found.append(begin + np.flatnonzero(_is_in(batch["id"], wanted)))
      begin += len(batch)
  rows = take_rows(paths, np.concatenate([np.zeros(0, np.int64), *found]))
  return {row["id"]: row for row in rows}


def read_ids(paths: Sequence[Path]) -> pa.Array:
  """Reads all ids of a split."""
  ids = [batch["id"] for path in paths for batch in _read(path, ["id"])]
  return pa.chunked_array(ids, pa.large_string()).combine_chunks()


def take_rows(paths: Sequence[Path], positions: np.ndarray) -> list[dict[str, Any]]:
  """Reads rows of several files, from the row groups that have them only.

  Args:
    positions: of the rows in the concatenated files, i64 [n], in ascending order.
  """
  rows, begin = [], 0
  for path in paths:
    with files.open_parquet(path) as file:
      for group in range(file.num_row_groups):
        end = begin + file.metadata.row_group(group).num_rows
        wanted = positions[slice(*np.searchsorted(positions, (begin, end)))]
        if len(wanted):
          for batch in files.read_batches(path, file, 1024, [group], use_threads=False):
            here = slice(*np.searchsorted(wanted, (begin, begin + len(batch))))
            rows += batch.take(pa.array(wanted[here] - begin)).to_pylist()
            begin += len(batch)
        begin = end
  return rows


def _draw(positions: np.ndarray, number: int, seed: int) -> np.ndarray:
  """Draws up to `number` of the positions, in ascending order."""
  if len(positions) <= number:
    return positions
  random = np.random.default_rng(seed)
  return np.sort(random.choice(positions, number, replace=False))


def _is_in(values: pa.Array, among: pa.Array) -> np.ndarray:
  return pc.is_in(values, value_set=among).to_numpy(zero_copy_only=False)


def _read(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
  options: Mapping[str, Any] = {"columns": columns, "use_threads": False}
  with files.open_parquet(path) as file:
    yield from files.read_batches(path, file, BATCH, **options)


def _kind_column(path: Path) -> str:
  """The path of the views' kinds; versions of Arrow name the levels differently."""
  with files.open_parquet(path) as file:
    columns = (file.schema.column(i).path for i in range(len(file.schema)))
    return next(c for c in columns if c.startswith("views.") and c.endswith(".kind"))


def _pairs(values: pa.Array) -> Iterator[tuple[str, int]]:
  for pair in pc.value_counts(values.drop_null()).to_pylist():
    yield pair["values"], pair["counts"]

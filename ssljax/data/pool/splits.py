"""The splits of a run's data, where train is a token store.

The checks are those of `read.read_splits`. They read the index instead of the rows.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.assets.encoders import resolve
from ssljax.data import split
from ssljax.data.dedup import conflicts, exact
from ssljax.data.dedup.normalize import text_digest
from ssljax.data.pool import build, index
from ssljax.data.pool.hashes import stamp
from ssljax.data.pool.shard import Encoding
from ssljax.data.pool.store import Store
from ssljax.data.pool.view import Dropped
from ssljax.data.records import checks, read, split_files
from ssljax.data.records.records import Records, concat, from_rows
from ssljax.errors import UserError


class PoolSplits(NamedTuple):
  store: Store  # of the files of train, or of the single file
  train: np.ndarray  # u32, rows of the store
  validation: Records
  test: Records
  labels: tuple[str, ...]  # class names by id
  same: np.ndarray  # i64, rows of train with a text that validation or test may have
  notes: list[str]  # for the log
  encoder: Path  # folder of the encoder


def open_splits(
  config: Mapping[str, Any], check_encoder: Callable[[Path], Any] = lambda folder: None
) -> PoolSplits:
  """Reads validation and test, and opens the store of train.

  The arguments and errors are those of `datasets.load_sets`.
  """
  data = str(config["data"])
  paths_of = split_files.find_splits(data)
  sources = [
    build.Source(path, read.id_prefix("train", path)) for path in paths_of["train"]
  ]
  others, other_notes = {}, []
  for name in ("validation", "test") if len(paths_of) > 1 else ():
    parts = []
    for path in paths_of[name]:
      part, ignored = read.read_with_ignored(path, read.id_prefix(name, path))
      other_notes += read.describe_ignored(path, ignored)
      parts.append(part)
    others[name] = concat(parts)
    where = ", ".join(map(str, paths_of[name]))
    read.check_not_empty(others[name], f"{where}: the {name} split")
  try:
    encoder = resolve(config["encoder"])
    check_encoder(encoder)
  except UserError:
    build.check_beginning(sources)  # a mistake in the data is reported first
    raise
  encoding = Encoding(
    encoder, config["max_length"], config["tokenization"], config["tokenizer_backend"]
  )
  before = stamp(sources[0].path)
  store = build.open_store(sources, encoding, config["verify"])
  where = ", ".join(map(str, paths_of["train"]))
  read.check_not_empty(store, f"{where}: the train split")
  notes = split_files.describe_files(data, paths_of)
  for file, ignored in store.index.ignored:
    notes += read.describe_ignored(store.paths[file], ignored)
  notes += other_notes
  train = np.arange(len(store), dtype=np.uint32)
  if not others:
    train, others, note = _divide(data, store, sources[0], config["seed"])
    if stamp(sources[0].path) != before:
      raise build.changed(sources[0].path)
    notes.append(note)
  else:
    _check_ids(store, others)
  labels = checks.check_labels({"train": _examples(store), **others})
  notes += read.order_warnings(data, labels)
  same = _same_texts(store, train, others)
  if not split_files.is_prepared(data):  # `prepare` lists them once
    notes += _conflicts(store, train, same, others)
  facts = {"labels": labels, "same": same, "notes": notes, "encoder": encoder}
  return PoolSplits(store, train, **others, **facts)


def _divide(
  data: str, store: Store, source: build.Source, seed: int
) -> tuple[np.ndarray, dict[str, Records], str]:
  """Divides a single file as `read.read_splits` does.

  Returns:
    The rows of train, the other splits, and a note for the log.
  """
  shards = map(store.shard, range(len(store.index.file)))
  groups = np.concatenate(
    [index.first_bytes(part.prompt_digest[: len(part)]) for part in shards]
  )
  shares = read.SHARES
  rows = split.divide(groups, store.index.label, tuple(shares.values()), seed)
  rows_of = dict(zip(shares, rows, strict=True))
  note = read.describe_division(data, rows_of, seed)
  train = rows_of.pop("train").astype(np.uint32)
  parts: dict[str, list[Records]] = {name: [] for name in rows_of}
  first = 0
  for records, _ in read.read_chunks(source.path, source.prefix, build.ROWS):
    for name, chosen in rows_of.items():
      inside = chosen[(chosen >= first) & (chosen < first + len(records))]
      parts[name].append(records.take(inside - first))
    first += len(records)
  return train, {name: concat(part) for name, part in parts.items()}, note


def _check_ids(store: Store, others: Mapping[str, Records]) -> None:
  """Refuses an id of validation or test that occurs twice, or in train."""
  checks.check_unique_ids(list(others.values()))
  for records in others.values():
    ids = records.column("id")
    found = store.find_ids(ids)
    for i in np.flatnonzero(found >= 0):
      raise checks.repeated_id(
        records.location(int(i)), ids[i], store.location(int(found[i]))
      )


def _examples(store: Store) -> Records:
  """The first row of train for each pair of a label and its name, without the text."""
  found = sorted(store.index.names, key=lambda item: item[0])
  rows = [
    {"text": "", "label": label if label >= 0 else None, "label_name": name}
    for _, label, name in found
  ]
  places = [store.line(row) for row, *_ in found]
  path, line = np.array(places, np.int64).reshape(-1, 2).T
  return Records(from_rows(rows).table, store.paths, path.astype(np.int32), line)


def _keys(records: Records) -> np.ndarray:
  """u64, the keys in an index that a text or pair of these records may have."""
  pairs = zip(records.column("text"), records.column("response"), strict=True)
  digests = {
    digest
    for text, response in pairs
    for digest in (text_digest(text, response), text_digest(text, None))
  }
  keys = (int.from_bytes(digest[:8], "little") for digest in digests)
  return np.array(sorted(keys), np.uint64)


def _same_texts(
  store: Store, train: np.ndarray, others: Mapping[str, Records]
) -> np.ndarray:
  """i64, rows of train with a text or view that may be one of the others'."""
  found = [store.index.texts.find(_keys(records)) for records in others.values()]
  return _inside(np.unique(np.concatenate(found)), train)


def _inside(rows: np.ndarray, train: np.ndarray) -> np.ndarray:
  """Those of some rows that are in train, which is ascending."""
  rows = rows.astype(train.dtype)
  at = np.minimum(np.searchsorted(train, rows), len(train) - 1)
  return rows[train[at] == rows]


def _conflicts(
  store: Store, train: np.ndarray, same: np.ndarray, others: Mapping[str, Records]
) -> list[str]:
  """See `conflicts.describe_conflicts`."""
  rows = np.union1d(_inside(store.index.conflict, train), same).tolist()
  items = (
    conflicts.Item(next(store.items(row)).digest, label, store.location, row)
    for row in rows
    if (label := int(store.index.label[row])) >= 0
  )
  return conflicts.describe([*items, *conflicts.items_of(others.values())])


class Overlap(NamedTuple):
  train: np.ndarray  # u32, the rows that remain
  dropped: Dropped
  note: str  # says what was dropped; "" if nothing was


def resolve_overlap(splits: PoolSplits, on_overlap: str) -> Overlap:
  """Refuses or drops texts of train that are also in validation or test.

  See `exact.resolve_overlap`.
  """
  store, others = splits.store, {"validation": splits.validation, "test": splits.test}
  known = exact.index_digests(others.values())
  found = {
    (row, item.view): match
    for row in splits.same.tolist()
    for item in store.items(row)
    if (
      match := exact.find_digests(
        known, item.prompt_digest, item.digest if item.paired else None
      )
    )
  }
  if not found:
    return Overlap(splits.train, {}, "")
  rows = [row for row, view in found if view is None]
  views = len(found) - len(rows)
  if on_overlap == "error":
    (row, view), (part, other_row) = next(iter(found.items()))
    name = list(others)[part]
    other = f"{name} ({others[name].location(other_row)})"
    raise exact.overlap_error(store.location(row), view, other, len(rows), views)
  dropped: dict[int, set[int]] = {}
  for row, view in found:
    if view is not None:
      dropped.setdefault(row, set()).add(view)
  kept = np.delete(splits.train, np.searchsorted(splits.train, rows))
  return Overlap(kept, dropped, exact.dropped_note(len(rows), views))

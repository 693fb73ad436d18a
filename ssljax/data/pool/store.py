"""A token store: the tokens of training files, in shards, with an index."""

import resource
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssljax.data.batches import sealed
from ssljax.data.pool import index, shard
from ssljax.data.pool.index import Index
from ssljax.data.pool.shard import Shard
from ssljax.data.records import files
from ssljax.errors import RunError

# Shards mapped at a time: each takes a file descriptor.
OPEN = max(16, min(512, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
READS = 1000  # of single rows, until the mapped pages are dropped from memory


class Item(NamedTuple):
  """The digests of a text or a stored view."""

  view: int | None  # index of the view in its row; None: the text
  paired: bool
  digest: bytes
  prompt_digest: bytes


class Store:
  """Reads a store. Rows are numbered through all files, in order."""

  def __init__(self, folder: Path, paths: Sequence[Path], verify: bool = False):
    """Opens the store; `is_whole` says whether all of it is as it was written.

    Args:
      paths: the files that it was made from.
      verify: compare all content with its digests, not only that of changed files.
    """
    self.folder, self.paths = folder, tuple(paths)
    found = index.read(folder / "index", verify)
    self.is_whole = found is not None
    if found is None:
      return
    self.index: Index = found
    self._open, self._lock, self._reads = dict[int, Shard](), threading.Lock(), 0
    self._folders = [folder / name for name in shard_names(self.index.file)]
    self.is_whole = all(shard.is_whole(path, verify) for path in self._folders)

  def __len__(self) -> int:
    return len(self.index.label)

  def shard(self, k: int) -> Shard:
    """The k-th shard, which stays mapped until many others are."""
    with self._lock:  # loaders read in several threads
      found = self._open.get(k) or shard.read(self._folders[k])
      if found is None:
        raise RunError(
          f"{self._folders[k]}: damaged; run the command again to remake it"
        )
      if len(self._open) >= OPEN and k not in self._open:
        self._open.pop(next(iter(self._open)))
      self._open[k] = found
    return found

  def drop_pages(self) -> None:
    """Removes the mapped pages from the memory of this process.

    Otherwise, a long run would seem to hold the whole store in memory.
    """
    with self._lock:
      arrays = [part.label for part in self._open.values()]  # a file has all arrays
      self._reads = 0
    facts = self.index
    parts = (facts, facts.kinds, facts.texts, facts.ids, facts.table)
    arrays += [a for part in parts for a in part if isinstance(a, np.ndarray)]
    for array in arrays:
      sealed.drop_pages(array)

  def place(self, row: int) -> tuple[Shard, int, int]:
    """(shard, row of the shard, index of the file) of a row."""
    self._reads += 1
    if self._reads >= READS:
      self.drop_pages()
    k = int(np.searchsorted(self.index.first, row, "right")) - 1
    return self.shard(k), int(row - self.index.first[k]), int(self.index.file[k])

  def location(self, row: int) -> str:
    """`file, line 3`."""
    part, i, file = self.place(row)
    return files.location(self.paths[file], int(part.line[i]))

  def line(self, row: int) -> tuple[int, int]:
    """(index of the file, line) of a row."""
    part, i, file = self.place(row)
    return file, int(part.line[i])

  def text(self, row: int) -> tuple[np.ndarray, int]:
    """The tokens of a row's text, as from `Tokens.text`."""
    part, i, _ = self.place(row)
    return part.tokens.text(i)

  def token_ids(self, rows: np.ndarray) -> np.ndarray:
    """The ids of the texts of rows u32 [n], one text after the other.

    `rows` is ascending. This is much faster than `text` for each row.
    """
    of_shard = np.searchsorted(self.index.first, rows, "right") - 1
    parts = [np.zeros(0, np.int32)]
    for k in np.unique(of_shard):
      tokens = self.shard(int(k)).tokens
      own = rows[of_shard == k] - self.index.first[k]
      begin, length = tokens.offset[own], tokens.offset[own + 1] - tokens.offset[own]
      before = np.cumsum(length) - length  # tokens of the texts before
      at = np.arange(length.sum()) + np.repeat(begin - before, length)
      parts.append(tokens.ids[at])
    return np.concatenate(parts)

  def views(self, row: int, kind: str) -> list[int]:
    """The indices of a row's views of one kind."""
    part, i, _ = self.place(row)
    kinds = part.kind[part.begin[i] : part.begin[i + 1]].tolist()
    return [k for k, number in enumerate(kinds) if part.kinds[number] == kind]

  def view(self, row: int, view: int) -> tuple[np.ndarray, int]:
    """The tokens of a stored view."""
    part, i, _ = self.place(row)
    return part.tokens.text(len(part) + int(part.begin[i]) + view)

  def view_facts(self, row: int, view: int) -> tuple[int, bool, bool]:
    """(tokens, whether it was too long, whether it's a fallback) of a stored view."""
    part, i, _ = self.place(row)
    k = int(part.begin[i]) + view
    n = len(part) + k
    length = int(part.tokens.offset[n + 1] - part.tokens.offset[n])
    return length, bool(part.tokens.truncated[n]), bool(part.fallback[k])

  def items(self, row: int) -> Iterator[Item]:
    """The text of a row, and its stored views."""
    part, i, _ = self.place(row)
    numbers = [i, *range(len(part) + part.begin[i], len(part) + part.begin[i + 1])]
    for position, k in enumerate(numbers):
      digests = (part.digest[k].tobytes(), part.prompt_digest[k].tobytes())
      yield Item(position - 1 if position else None, bool(part.paired[k]), *digests)

  def find_ids(self, ids: Sequence[str]) -> np.ndarray:
    """i64, the row of each id; -1 if there is none."""
    digest = shard.as_array(map(shard.id_digest, ids))
    keys = index.first_bytes(digest)
    begin = np.searchsorted(self.index.ids.key, keys, "left")
    count = np.searchsorted(self.index.ids.key, keys, "right") - begin
    # For each id, the rows whose digests begin like its own.
    which = np.repeat(np.arange(len(ids)), count)
    position = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    row = self.index.ids.row[begin[which] + position].astype(np.int64)
    of_shard = np.searchsorted(self.index.first, row, "right") - 1
    same = np.zeros(len(row), bool)
    for k in np.unique(of_shard):
      own = np.flatnonzero(of_shard == k)
      found = self.shard(int(k)).id[row[own] - self.index.first[k]]
      same[own] = (found == digest[which[own]]).all(1)
    rows = np.full(len(ids), -1, np.int64)
    rows[which[same]] = row[same]
    return rows


def shard_names(file: Sequence[int] | np.ndarray) -> list[str]:
  """The names of the shards' folders, from the index of each shard's file."""
  names, number, before = [], 0, -1
  for k in map(int, file):
    number = number + 1 if k == before else 0
    before = k
    names.append(shard_name(k, number))
  return names


def shard_name(file: int, number: int) -> str:
  return f"{file:05}-{number:06}"

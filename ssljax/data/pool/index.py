"""The index of a token store: what a run reads of all rows, without their tokens."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.data.batches import sealed
from ssljax.data.batches.token_words import WordTable
from ssljax.data.pool.shard import Shard
from ssljax.data.records import checks

VIEW, FALLBACK = 1, 2  # bits of Kinds.flag
PARTS = 16  # in which keys are sorted; a power of two


class Kinds(NamedTuple):
  """The stored views of n rows, for each of K kinds."""

  count: np.ndarray  # u16 [K, n], number of views
  flag: np.ndarray  # u8 [K, n], sum of VIEW and FALLBACK
  length: np.ndarray  # u32 [K, n], tokens of all views of the row
  cut: np.ndarray  # u16 [K, n], number of truncated views


class Keys(NamedTuple):
  """Where a digest occurs: its first 8 bytes, sorted, and the rows."""

  key: np.ndarray  # u64
  row: np.ndarray  # u32

  def find(self, keys: np.ndarray) -> np.ndarray:
    """The rows with one of these keys, i64, ascending."""
    begin = np.searchsorted(self.key, keys, "left")
    end = np.searchsorted(self.key, keys, "right")
    found = [self.row[a:b] for a, b in zip(begin, end, strict=True) if b > a]
    return np.unique(np.concatenate(found or [[]])).astype(np.int64)


class Index(NamedTuple):
  """Facts about the n rows of a store."""

  first: np.ndarray  # i64 [shards + 1], first row of each shard
  file: np.ndarray  # i64 [shards], index of the file
  label: np.ndarray  # i32 [n], -1 without a label
  length: np.ndarray  # i32 [n], tokens of the text
  cut: np.ndarray  # bool [n], whether the text was too long
  kinds: Kinds
  texts: Keys  # of all texts, views and prompts
  ids: Keys
  conflict: np.ndarray  # i64, labelled rows whose text also has another label
  table: WordTable
  kind_names: tuple[str, ...]
  names: tuple[tuple[int, int, str | None], ...]  # (first row, label, label_name)
  ignored: tuple[tuple[int, tuple[str, ...]], ...]  # (file, columns)
  unknown: tuple[int, int]  # (unknown tokens, all tokens)
  longest: dict[str, int]  # tokens of the longest view of each kind
  sha256: dict[str, str]  # of the tokens of each kind; "": of the texts; "label"


def first_bytes(digests: np.ndarray) -> np.ndarray:
  """u64 [n], the first 8 bytes of digests u8 [n, 16]."""
  return np.ascontiguousarray(digests[:, :8]).view(np.uint64)[:, 0]


def build(
  shards: Callable[[], Iterator[tuple[int, Shard]]],
  table: WordTable,
  place: Callable[[int, int], tuple[str, str]],
) -> Index:
  """Builds the index.

  Args:
    shards: yields (index of the file, shard) for all shards in the order of the data.
    place: maps (index of a shard, row of the shard) to the row's location and id, for
      errors.

  Raises:
    UserError: an id occurs twice.
  """
  sizes, files, names, items = [], [], dict[str, int](), 0
  for file, shard in shards():
    files.append(file)
    sizes.append(len(shard))
    items += len(shard.digest) + int(shard.paired.sum())
    for name in shard.kinds:
      names.setdefault(name, len(names))
  first = np.cumsum([0, *sizes], dtype=np.int64)
  n = int(first[-1])
  label, length = np.zeros(n, np.int32), np.zeros(n, np.int32)
  cut, kinds = np.zeros(n, bool), _empty_kinds(len(names), n)
  keys = _Collected(n, items)
  pairs: dict[tuple[int, str | None], int] = {}
  ignored: dict[int, tuple[str, ...]] = {}
  unknown, longest = np.zeros(2, np.int64), dict[str, int]()
  content = {name: hashlib.sha256() for name in ("", "label", *names)}
  own_key = np.zeros(n, np.uint64)
  for k, (file, shard) in enumerate(shards()):
    rows = slice(first[k], first[k + 1])
    size, tokens = len(shard), shard.tokens
    label[rows] = shard.label
    length[rows] = tokens.lengths[:size]
    cut[rows] = tokens.truncated[:size]
    own_key[rows] = first_bytes(shard.digest[:size])
    keys.add(shard, int(first[k]))
    content["label"].update(shard.label.tobytes())
    _hash(content[""], shard, np.arange(size))
    owner = np.repeat(np.arange(size), np.diff(shard.begin))  # row of each view
    for name, i in names.items():
      of_kind = shard.kind == (shard.kinds.index(name) if name in shard.kinds else -1)
      views = np.flatnonzero(of_kind)
      _add_kind(kinds, i, shard, views, owner[views], rows)
      _hash(content[name], shard, size + views)
      lengths = tokens.lengths[size + views]
      longest[name] = max(longest.get(name, 0), int(lengths.max(initial=0)))
    for row, *pair in shard.names:
      pairs.setdefault((pair[0], pair[1]), int(first[k]) + row)
    ignored.setdefault(file, shard.ignored)
    unknown += shard.unknown
  for name, i in names.items():
    content[name].update(kinds.count[i].tobytes())
  texts, ids = keys.sorted()
  _check_ids(ids, keys.ids, first, place)
  return Index(
    first,
    np.array(files, np.int64),
    label,
    length,
    cut,
    kinds,
    texts,
    ids,
    _conflicts(own_key, label),
    table,
    tuple(names),
    tuple((row, *pair) for pair, row in pairs.items()),
    tuple(ignored.items()),
    (int(unknown[0]), int(unknown[1])),
    longest,
    {name: digest.hexdigest() for name, digest in content.items()},
  )


def _empty_kinds(kinds: int, n: int) -> Kinds:
  types = (np.uint16, np.uint8, np.uint32, np.uint16)
  return Kinds(*(np.zeros((kinds, n), type_) for type_ in types))


def _add_kind(
  kinds: Kinds, i: int, shard: Shard, views: np.ndarray, row: np.ndarray, rows: slice
) -> None:
  """Counts the views of one kind; `row` i64 has the row of each view in the shard."""
  size = len(shard)
  fallback = shard.fallback[views]
  has = lambda chosen: np.bincount(row[chosen], minlength=size) > 0
  lengths = shard.tokens.lengths[size + views]
  kinds.count[i, rows] = np.bincount(row, minlength=size)
  kinds.flag[i, rows] = VIEW * has(~fallback) + FALLBACK * has(fallback)
  kinds.length[i, rows] = np.bincount(row, lengths, size)
  kinds.cut[i, rows] = np.bincount(row, shard.tokens.truncated[size + views], size)


def _hash(digest: Any, shard: Shard, items: np.ndarray) -> None:
  """Hashes the tokens of some texts. The borders of shards make no difference."""
  tokens = shard.tokens
  lengths = tokens.lengths[items]
  chosen = np.zeros(len(tokens.lengths), bool)
  chosen[items] = True
  ids = tokens.ids[np.repeat(chosen, tokens.lengths)]
  parts = (lengths, tokens.prompt[items], ids)
  # Each text is followed by its tokens, so that texts can't run into each other.
  head = np.stack([parts[0].astype(np.int32), parts[1]], 1).astype(np.int32)
  size = ids.itemsize
  whole = np.zeros(len(items) * 8 + len(ids) * size, np.uint8)
  ends = np.cumsum(lengths) * size + 8 * np.arange(1, len(items) + 1)
  starts = ends - lengths * size - 8
  at = (starts[:, None] + np.arange(8)).ravel()
  is_head = np.zeros(len(whole), bool)
  is_head[at] = True
  whole[is_head] = head.view(np.uint8).ravel()
  whole[~is_head] = np.ascontiguousarray(ids).view(np.uint8)
  digest.update(whole)


class _Collected:
  """The digests of all shards."""

  def __init__(self, rows: int, items: int):
    """`items`: number of texts, views and prompts."""
    self.key, self.row = np.zeros(items, np.uint64), np.zeros(items, np.uint32)
    self.ids = np.zeros((rows, 16), np.uint8)
    self._end = 0

  def add(self, shard: Shard, first: int) -> None:
    size = len(shard)
    self.ids[first : first + size] = shard.id
    owner = np.repeat(np.arange(size), np.diff(shard.begin))
    rows = np.concatenate([np.arange(size), owner]).astype(np.uint32) + np.uint32(first)
    prompts = shard.prompt_digest[shard.paired]
    for digest, row in ((shard.digest, rows), (prompts, rows[shard.paired])):
      part = slice(self._end, self._end + len(row))
      self.key[part], self.row[part] = first_bytes(digest), row
      self._end = part.stop

  def sorted(self) -> tuple[Keys, Keys]:
    """Keys of the texts, and keys of the ids."""
    rows = np.arange(len(self.ids), dtype=np.uint32)
    return _sorted(self.key, self.row), _sorted(first_bytes(self.ids), rows)


def _sorted(key: np.ndarray, row: np.ndarray) -> Keys:
  """Sorts by the key, then by the position; in parts, to save memory."""
  ordered = Keys(np.empty_like(key), np.empty_like(row))
  begin = 0
  for first_bits in range(PARTS):
    own = np.flatnonzero(key // np.uint64(2**64 // PARTS) == first_bits)
    own = own[np.argsort(key[own], kind="stable")]
    part = slice(begin, begin + len(own))
    ordered.key[part], ordered.row[part] = key[own], row[own]
    begin = part.stop
  return ordered


def _check_ids(
  ids: Keys,
  digests: np.ndarray,
  first: np.ndarray,
  place: Callable[[int, int], tuple[str, str]],
) -> None:
  same = np.flatnonzero(ids.key[1:] == ids.key[:-1])
  same = same[(digests[ids.row[same]] == digests[ids.row[same + 1]]).all(1)]
  if not same.size:
    return
  at = same[np.argmin(ids.row[same + 1])]
  places = []
  for row in map(int, ids.row[at : at + 2]):
    k = int(np.searchsorted(first, row, "right")) - 1
    places.append(place(k, row - int(first[k])))
  (earlier, id_), (later, _) = places
  raise checks.repeated_id(later, id_, earlier)


def _conflicts(key: np.ndarray, label: np.ndarray) -> np.ndarray:
  """i64, rows with a label whose text (by its key) has another label elsewhere."""
  rows = np.flatnonzero(label >= 0)
  if not rows.size:
    return rows
  rows = rows[np.argsort(key[rows], kind="stable")]
  new = np.ones(len(rows), bool)
  new[1:] = key[rows[1:]] != key[rows[:-1]]
  starts, labels = np.flatnonzero(new), label[rows]
  differ = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
  return np.sort(rows[np.repeat(differ, np.diff([*starts, len(rows)]))])


def write(folder: Path, index: Index) -> None:
  """Writes an index; see `sealed.write_arrays`."""
  arrays: dict[str, np.ndarray] = {}
  plain: dict[str, Any] = {}
  for name, value in index._asdict().items():
    if name in _PARTS:
      arrays |= {f"{name}.{key}": array for key, array in value._asdict().items()}
    elif isinstance(value, np.ndarray):
      arrays[name] = value
    else:
      plain[name] = value
  arrays["plain"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
  sealed.write_arrays(folder, arrays)


def read(folder: Path, verify: bool = False) -> Index | None:
  """Maps an index into memory; returns None if it isn't there as it was written."""
  names = [name for name in Index._fields if name not in (*_PARTS, *_PLAIN)]
  names += [f"{part}.{key}" for part, type_ in _PARTS.items() for key in type_._fields]
  arrays = sealed.read_arrays(folder, [*names, "plain"], verify)
  if arrays is None:
    return None
  plain = json.loads(arrays.pop().tobytes())
  found = dict(zip(names, arrays, strict=True))
  parts = {
    part: type_(*(found.pop(f"{part}.{key}") for key in type_._fields))
    for part, type_ in _PARTS.items()
  }
  plain |= {name: _as_tuples(plain[name]) for name in _PLAIN}
  return Index(**found, **parts, **plain)


def _as_tuples(value: Any) -> Any:
  return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


_PARTS: dict[str, Any] = {
  "kinds": Kinds,
  "texts": Keys,
  "ids": Keys,
  "table": WordTable,
}
_PLAIN = ("kind_names", "names", "ignored", "unknown", "longest", "sha256")

"""A view of rows of a token store, with the interface of `loader.View`.

The kinds `words` and `masked` have several candidates, which are drawn like the others.
But their tokens are made when a text is read: another visit gets other noise.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssljax.data.batches import order, token_noise
from ssljax.data.batches.loader import Seed, draw_candidates
from ssljax.data.batches.token_noise import Text
from ssljax.data.batches.token_words import WordSample
from ssljax.data.pool.index import FALLBACK, VIEW, Kinds
from ssljax.data.pool.store import Store
from ssljax.data.views import CANDIDATES

MOST = 1 << 16  # candidates of a row

# Views that aren't used, since they are also in validation or test: row -> their
# numbers in the row.
Dropped = Mapping[int, Collection[int]]


def remaining(store: Store, dropped: Dropped) -> Kinds:
  """What the index says of stored views, without the dropped ones."""
  if not dropped:
    return store.index.kinds
  kinds = Kinds(*map(np.array, store.index.kinds))
  for row, views in dropped.items():
    for i, kind in enumerate(store.index.kind_names):
      kept = [k for k in store.views(row, kind) if k not in views]
      facts = [store.view_facts(row, k) for k in kept]
      flag = sum({FALLBACK if fallback else VIEW for _, _, fallback in facts})
      values = (len(facts), flag, sum(f[0] for f in facts), sum(f[1] for f in facts))
      for array, value in zip(kinds, values, strict=True):
        array[i, row] = value
  return kinds


class _Drawn(NamedTuple):
  """Drawn candidates."""

  row: np.ndarray  # u32, row of the store
  kind: np.ndarray  # i64, index into the view's kinds
  number: np.ndarray  # i64, which of the candidates of this kind
  seed: np.ndarray  # u64


class PoolView:
  """One view of n rows."""

  def __init__(
    self,
    store: Store,
    kinds: Kinds,
    dropped: Dropped,
    rows: np.ndarray,
    names: Sequence[str],
    words: WordSample,
    *,
    fallback: str,
    seed: int,
    max_length: int,
  ):
    """Stores the arguments.

    Args:
      kinds: from `remaining`.
      rows: u32 [n], rows of the store.
      names: kinds of the view.
      words: what `words` replaces words by.
      fallback: "words" or "self", for rows that don't store a kind.
      seed: of the noise.
    """
    self._store, self._kinds, self._dropped = store, kinds, dropped
    self.rows, self._names, self._seed = rows, tuple(names), seed
    self._words = words
    self._number = {name: i for i, name in enumerate(store.index.kind_names)}
    computed = {"self": 1, "words": CANDIDATES, "masked": CANDIDATES}
    self._computed = [computed.get(name, 0) for name in self._names]
    self._fallback, self._instead = fallback, computed[fallback]
    self._limit = self._longest(max_length)

  def _counts(self, rows: np.ndarray) -> np.ndarray:
    """i64 [kinds of the view, rows], candidates of rows of the store."""
    return np.stack(
      [
        np.full(len(rows), computed) if computed else self._stored(name, rows)
        for name, computed in zip(self._names, self._computed, strict=True)
      ]
    )

  def _stored(self, name: str, rows: np.ndarray) -> np.ndarray:
    if name not in self._number:
      return np.full(len(rows), self._instead)
    count = self._kinds.count[self._number[name], rows].astype(np.int64)
    count[count == 0] = self._instead
    return count

  @property
  def counts(self) -> np.ndarray:
    """i64 [n], candidates of each row."""
    return self._counts(self.rows).sum(0)

  def draw(
    self, seed: Seed, epoch: np.ndarray, rows: np.ndarray, taken: Seed | None = None
  ) -> np.ndarray:
    """Draws a candidate for each row; see `loader.View.draw`.

    Returns:
      i64, for `lengths` and `texts`. The numbers stand for the epoch, the row and the
      candidate.
    """
    count = self._counts(self.rows[rows]).sum(0)
    candidate = draw_candidates(count, seed, epoch, rows, taken)
    return (np.asarray(epoch) * len(self.rows) + rows) * MOST + candidate

  def _resolve(self, drawn: np.ndarray) -> _Drawn:
    visit, candidate = np.divmod(drawn, MOST)
    epoch, position = np.divmod(visit, len(self.rows))
    rows = self.rows[position]
    ends = np.cumsum(self._counts(rows), 0)
    kind = (candidate >= ends).sum(0)
    before = np.where(kind > 0, ends[kind - 1, np.arange(len(kind))], 0)
    seed = order.scramble(self._seed, epoch, position)
    seed = order.scramble(seed, candidate, position)
    return _Drawn(rows, kind, candidate - before, seed)

  def lengths(self, drawn: np.ndarray) -> np.ndarray:
    """i64, tokens of each text that `draw` has drawn."""
    return np.array(
      self._read(drawn, self._text_length, self._view_length, _length), np.int64
    )

  def texts(self, drawn: np.ndarray) -> list[Text]:
    """The texts that `draw` has drawn, as from `Tokens.text`."""
    return self._read(drawn, self._store.text, self._store.view, lambda text: text)

  def _read(
    self,
    drawn: np.ndarray,
    read_text: Callable,
    read_view: Callable,
    read_noisy: Callable,
  ) -> list:
    """Reads each text with one of the functions.

    Args:
      read_text: called with the row of a text.
      read_view: called with the row and the index of a stored view.
      read_noisy: called with a text that was changed.
    """
    found = self._resolve(np.asarray(drawn))
    result: list[Any] = [None] * len(found.row)
    noisy: dict[str, list[int]] = {"words": [], "masked": []}
    columns = zip(*(column.tolist() for column in found[:3]), strict=True)
    for i, (row, kind, number) in enumerate(columns):
      name = self._names[kind]
      if not self._computed[kind]:
        name = self._fallback
      if not self._computed[kind] and self._has(kind, row):
        unused = self._dropped.get(row, ())
        views = self._store.views(row, self._names[kind])
        view = [k for k in views if k not in unused][number]
        result[i] = read_view(row, view)
      elif name == "self":
        result[i] = read_text(row)
      else:
        noisy[name].append(i)
    for name, positions in noisy.items():
      texts = [self._store.text(int(found.row[i])) for i in positions]
      seeds = found.seed[positions]
      table = self._store.index.table
      if name == "words":
        changed = token_noise.perturb(texts, seeds, table, self._words, self._limit)
      else:
        changed = token_noise.mask(texts, seeds, table)
      for i, text in zip(positions, changed, strict=True):
        result[i] = read_noisy(text)
    return result

  def _has(self, kind: int, row: int) -> bool:
    """Whether a row of the store has stored views of a kind of this view."""
    number = self._number.get(self._names[kind])
    return number is not None and bool(self._kinds.count[number, row])

  def _text_length(self, row: int) -> int:
    return int(self._store.index.length[row])

  def _view_length(self, row: int, view: int) -> int:
    return self._store.view_facts(row, view)[0]

  def _mean(self, own: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """[n], the mean of a fact over the candidates of each row.

    Args:
      own: the fact of each row's text. Noise hardly changes it.
      stored: [kinds of the store, rows of the store], its sum over the stored views.
    """
    own = own[self.rows]
    if all(self._computed):
      return own  # without a copy in f64: there may be many rows
    total, count = np.zeros(len(own)), np.zeros(len(own), np.int64)
    for name, computed in zip(self._names, self._computed, strict=True):
      number = None if computed else self._number.get(name)
      if number is None:
        total += (computed or self._instead) * own
        count += computed or self._instead
      else:
        lacks = self._kinds.count[number, self.rows] == 0
        total += np.where(lacks, self._instead * own, stored[number, self.rows])
        count += self._stored(name, self.rows)
    return total / count

  @property
  def row_lengths(self) -> np.ndarray:
    """[n], tokens of each row: the mean over its candidates, without noise."""
    return self._mean(self._store.index.length, self._kinds.length)

  @property
  def cut(self) -> np.ndarray:
    """[n], share of each row's candidates that were truncated."""
    return self._mean(self._store.index.cut, self._kinds.cut)

  @property
  def longest(self) -> int:
    """The most tokens that a candidate may have."""
    return self._limit

  def _longest(self, max_length: int) -> int:
    length = int(self._store.index.length[self.rows].max(initial=1))
    if "words" in (*self._names, self._fallback):
      length += max(8, length // 8)  # words may be replaced by longer ones
    known = self._store.index.longest
    return min(max_length, max([length, *(known.get(n, 0) for n in self._names)]))


def _length(text: Text) -> int:
  return len(text[0])

"""Finds near-duplicate texts: MinHash proposes candidates, which are then compared.

The similarity of two texts is the Jaccard index of their character 5-grams, ignoring
case and punctuation. If a pair's similarity is just at the threshold, MinHash misses
the pair with a probability below 1/1000. More similar pairs are missed less often.
"""

import functools
import unicodedata
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from ssljax.data.dedup import exact
from ssljax.data.dedup.normalize import normalize_text
from ssljax.data.records.records import Records

PERMUTATIONS = 128
MISSED = 1e-3  # fraction of the pairs at the threshold that MinHash may miss
GRAM = 5  # characters

Grams = frozenset[str]


class Overlap(NamedTuple):
  """A text of train that is a duplicate, or near-duplicate, of a text of `other`."""

  id: str  # row of train
  view: str  # kind of the view, "" for the text itself
  other: str  # name of the other set
  other_id: str
  exact: bool  # whether `dedup.normalize` makes the texts the same
  similarity: float  # 1.0 if exact


def find_overlaps(
  train: Records, others: Mapping[str, Records], threshold: float
) -> list[Overlap]:
  """Finds duplicates and near-duplicates of other sets among the texts of train.

  Args:
    train: its rows and their stored views are compared; labels don't matter.
    others: sets to compare with, by name.
    threshold: minimum similarity of near-duplicates.

  Returns:
    At most one overlap for each text and other set: an exact duplicate if there is one,
    otherwise the most similar near-duplicate.
  """
  indices = {name: SetIndex(other, threshold) for name, other in others.items()}
  overlaps = []
  for i, view, text, response in exact.iterate_texts(train):
    prompt, pair = _grams(text, response)
    for name, index in indices.items():
      match = exact.find_duplicate(index.exact, text, response)
      row, similarity = (match[1], 1.0) if match else index.nearest(prompt, pair)
      if row is not None:
        id_, other = train.table["id"][i].as_py(), index.ids[row]
        kind = "" if view is None else train.table["views"][i][view]["kind"].as_py()
        overlaps.append(Overlap(id_, kind, name, other, bool(match), similarity))
  return overlaps


class SetIndex:
  """Finds texts of a set by their digest, or by the MinHash of prompts and of pairs."""

  def __init__(self, other: Records, threshold: float):
    self.ids = other.column("id")
    self.exact = exact.index_digests([other])
    self._pairs, self._prompts, self._pair_prompts = (
      NearestIndex(threshold) for _ in range(3)
    )
    pairs = zip(other.column("text"), other.column("response"), strict=True)
    for row, (text, response) in enumerate(pairs):
      self._add(row, *_grams(text, response))

  def _add(self, row: int, prompt: Grams, pair: Grams | None) -> None:
    if pair:
      self._pairs.add(row, pair)
    (self._pair_prompts if pair else self._prompts).add(row, prompt)

  def add_unless_near(self, id_: str, text: str, response: str | None) -> str | None:
    """Adds a text, unless a text of the set is nearly the same: then returns its id."""
    prompt, pair = _grams(text, response)
    row, _ = self.nearest(prompt, pair)
    if row is not None:
      return self.ids[row]
    self._add(len(self.ids), prompt, pair)
    self.ids.append(id_)
    return None

  def nearest(self, prompt: Grams, pair: Grams | None) -> tuple[int | None, float]:
    """(row, similarity); (None, 0.0) if no row reaches the threshold."""
    return max(
      self._prompts.nearest(prompt),
      self._pairs.nearest(pair) if pair else self._pair_prompts.nearest(prompt),
      key=lambda candidate: candidate[1],
    )


def _grams(text: str, response: str | None) -> tuple[Grams, Grams | None]:
  """The n-grams of a prompt, and those of the pair if there is a response."""
  pair = character_ngrams(f"{text} {response}") if response else None
  return character_ngrams(text), pair


class NearestIndex:
  """Holds sets of n-grams, and finds the set that is most similar to a query."""

  def __init__(self, threshold: float):
    from datasketch import MinHashLSH

    self._threshold = threshold
    self._grams: dict[int, Grams] = {}
    self.table = MinHashLSH(num_perm=PERMUTATIONS, params=lsh_bands(threshold))

  def add(self, row: int, grams: Grams) -> None:
    self._grams[row] = grams
    self.table.insert(row, minhash(grams))

  def nearest(self, grams: Grams) -> tuple[int | None, float]:
    """(row, similarity); (None, 0.0) if no row reaches the threshold."""
    best: tuple[int | None, float] = (None, 0.0)
    for row in sorted(self.table.query(minhash(grams))):
      similarity = len(grams & self._grams[row]) / len(grams | self._grams[row])
      if similarity >= self._threshold and similarity > best[1]:
        best = row, similarity
    return best


def lsh_bands(threshold: float) -> tuple[int, int]:
  """(bands, hashes per band) of the MinHash table.

  Two texts with similarity s share at least one of b bands of r hashes with probability
  1 - (1 - s^r)^b (Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, 3.4). The
  largest r for which the probability of missing a pair is below `MISSED` gives the
  fewest candidates.
  """
  lengths = range(1, PERMUTATIONS // 2 + 1)
  allowed = [r for r in lengths if (1 - threshold**r) ** (PERMUTATIONS // r) < MISSED]
  length = max(allowed, default=1)
  return PERMUTATIONS // length, length


def character_ngrams(text: str) -> Grams:
  """Character 5-grams of the normalised text without punctuation, in any script."""
  normalized = normalize_text(text)
  spaced = "".join(" " if unicodedata.category(c)[0] == "P" else c for c in normalized)
  words = " ".join(spaced.split()) or normalized
  return frozenset(words[i : i + GRAM] for i in range(max(1, len(words) - GRAM + 1)))


@functools.lru_cache(maxsize=4)  # the texts of a row are compared with several sets
def minhash(grams: Grams):
  from datasketch import MinHash

  hashes = MinHash(PERMUTATIONS, hashfunc=zlib.crc32)
  hashes.update_batch([gram.encode("utf-8", "surrogatepass") for gram in grams])
  return hashes

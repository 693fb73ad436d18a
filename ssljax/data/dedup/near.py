"""Finds near-duplicate texts: MinHash on character 5-grams, then exact similarity.

Similarity is the Jaccard index of the 5-grams, ignoring case and punctuation. MinHash
only proposes candidates; it misses a pair at the threshold once in a thousand times,
and more similar pairs less often.
"""

import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ssljax.data.dedup import exact
from ssljax.data.dedup.normalize import normalize_text
from ssljax.data.records.records import Records

PERMUTATIONS = 128
MISSED = 1e-3  # fraction of the pairs at the threshold that MinHash may miss
GRAM = 5  # characters
BATCH = 4096  # rows of train that are Python objects at the same time


class Overlap(NamedTuple):
  """A text of train that is a duplicate, or near-duplicate, of a text of `other`."""

  id: str  # row of train
  view: str  # kind of the view, "" for the text itself
  other: str  # name of the other set
  other_id: str
  exact: bool  # the same text as defined by `dedup.normalize`
  similarity: float  # 1.0 if exact


def find_overlaps(
  train: Records, others: Mapping[str, Records], threshold: float
) -> list[Overlap]:
  """Finds duplicates and near-duplicates of other sets among the texts of train.

  Args:
    train: its rows and their stored views are compared; labels don't matter.
    others: sets to compare with, by name.
    threshold: near-duplicates have at least this similarity.

  Returns:
    For each text and each other set at most one overlap: an exact one if there is one,
    otherwise the most similar.
  """
  indices = {name: _SetIndex(other, threshold) for name, other in others.items()}
  overlaps = []
  for id_, view, text, response in _train_texts(train):
    prompt = _Sketch(text)
    pair = _Sketch(f"{text} {response}") if response else None
    for name, index in indices.items():
      row, is_exact, similarity = index.nearest(text, response, prompt, pair)
      if row is not None:
        other_id = index.ids[row]
        overlaps.append(Overlap(id_, view, name, other_id, is_exact, similarity))
  return overlaps


class _Sketch:
  """The n-grams and MinHash of a text, shared by all comparisons."""

  def __init__(self, text: str):
    self.grams = character_ngrams(text)
    self.hashes = minhash(self.grams)


class _SetIndex:
  """The texts of a set, by digest and by MinHash of prompts and of pairs."""

  def __init__(self, other: Records, threshold: float):
    self.ids = other.column("id")
    self._exact = exact.index_digests([other])
    self._pairs, self._prompts, self._pair_prompts = (
      NearestIndex(threshold) for _ in range(3)
    )
    columns = (other.column("text"), other.column("response"))
    for row, (text, response) in enumerate(zip(*columns, strict=True)):
      if response:
        self._pairs.add(row, character_ngrams(f"{text} {response}"))
        self._pair_prompts.add(row, character_ngrams(text))
      else:
        self._prompts.add(row, character_ngrams(text))

  def nearest(
    self, text: str, response: str | None, prompt: _Sketch, pair: _Sketch | None
  ) -> tuple[int | None, bool, float]:
    """(row, whether it is exact, similarity); row is None if none is near."""
    match = exact.find_duplicate(self._exact, text, response)
    if match:
      return match[1], True, 1.0
    candidates = [
      self._prompts.nearest(prompt),
      self._pairs.nearest(pair) if pair else self._pair_prompts.nearest(prompt),
    ]
    row, similarity = max(candidates, key=lambda candidate: candidate[1])
    return row, False, similarity


class NearestIndex:
  """Sets of n-grams, searched for the one most similar to a query."""

  def __init__(self, threshold: float):
    from datasketch import MinHashLSH

    self._threshold = threshold
    self._grams: dict[int, frozenset[str]] = {}
    self.table = MinHashLSH(num_perm=PERMUTATIONS, params=lsh_bands(threshold))

  def add(self, row: int, grams: frozenset[str]) -> None:
    self._grams[row] = grams
    self.table.insert(row, minhash(grams))

  def nearest(self, query: _Sketch) -> tuple[int | None, float]:
    """(row, similarity); (None, 0.0) if none reaches the threshold."""
    best: tuple[int | None, float] = (None, 0.0)
    for row in sorted(self.table.query(query.hashes)):
      grams = self._grams[row]
      similarity = len(query.grams & grams) / len(query.grams | grams)
      if similarity >= self._threshold and similarity > best[1]:
        best = row, similarity
    return best


def lsh_bands(threshold: float) -> tuple[int, int]:
  """(bands, hashes per band) of the MinHash table.

  Two texts with similarity s share one of b bands of r hashes with probability
  1 - (1 - s^r)^b (Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, 3.4). The
  longest bands that miss at most `MISSED` are used: they give the fewest candidates.
  """
  lengths = range(1, PERMUTATIONS // 2 + 1)
  allowed = [r for r in lengths if (1 - threshold**r) ** (PERMUTATIONS // r) < MISSED]
  length = max(allowed, default=1)
  return PERMUTATIONS // length, length


def character_ngrams(text: str) -> frozenset[str]:
  """Character 5-grams of the normalised text without punctuation, in any script."""
  normalized = normalize_text(text)
  spaced = "".join(" " if unicodedata.category(c)[0] == "P" else c for c in normalized)
  words = " ".join(spaced.split()) or normalized
  return frozenset(words[i : i + GRAM] for i in range(max(1, len(words) - GRAM + 1)))


def minhash(grams: frozenset[str]):
  from datasketch import MinHash

  sketch = MinHash(PERMUTATIONS, hashfunc=zlib.crc32)
  sketch.update_batch([gram.encode("utf-8", "surrogatepass") for gram in grams])
  return sketch


def _train_texts(train: Records) -> Iterator[tuple[str, str, str, str | None]]:
  """(id, kind of the view or "", text, response) of everything training may read."""
  table = train.table.select(["id", "text", "response", "views"])
  for batch in table.to_batches(BATCH):
    for row in batch.to_pylist():
      yield row["id"], "", row["text"], row["response"]
      for view in row["views"] or ():
        response = view["response"] or row["response"]
        yield row["id"], view["kind"], view["text"], response

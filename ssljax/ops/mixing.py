"""Mixup of texts (arXiv 1710.09412): pairs, shares and the mixed logits.

Texts can be mixed in two places. "pooled": the features that the classifier reads
(manifold mixup). "hidden": the hidden states after a layer drawn at each step, position
by position (TMix, Chen et al. 2020, arXiv 2004.12239).
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from ssljax.method import Outputs
from ssljax.ops import draws

Array = jax.Array
Where = Annotated[  # a keyword of methods
  Literal["pooled", "hidden"],
  "mix pooled features, or hidden states (needs layout=padded)",
]
LAYERS = (7, 9, 12)  # of 12 layers, TMix's best set; scaled to other depths
REPEAT = 1 << 24  # larger than any row, see `pairs`


def pairs(key: Array, rows: Sequence[Array], alpha: float) -> tuple[Array, Array]:
  """Partners and shares of n texts; they depend on the rows, not on their order.

  Args:
    rows: for each view, i32, the rows of its texts; n in total.
    alpha: the parameter of the Beta distribution; 0, its limit, mixes nothing.

  Returns:
    The partners, i32 [n], a permutation: the texts form a random circle, and each
    text's partner is the next text. Each text's share of its mixture, f32 [n]: the
    larger of x and 1 - x, with x from Beta(alpha, alpha) (MixMatch, equations 8 to 11).
  """
  # Number the texts of all views, for a single draw. Repeated rows (in a batch larger
  # than the labelled set) get different numbers.
  number = jnp.concatenate([len(rows) * index + v for v, index in enumerate(rows)])
  repeats = jnp.tril(number[:, None] == number, -1).sum(1, dtype=jnp.int32)
  number = number + repeats * jnp.int32(REPEAT)
  order_key, share_key = jax.random.split(key)
  order = jnp.argsort(draws.by_row(order_key, number, jax.random.uniform))
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
  """Runs the model on mixed texts.

  Args:
    views: a sequence of Texts, n in total.
    where: "pooled" or "hidden".

  Returns:
    The logits of the mixed texts, f32 [n, C], in the order of `views`. The outputs for
    each unmixed view, which "pooled" computes anyway; () for "hidden".
  """
  run_key, layer_key = jax.random.split(key)
  if where == "hidden":
    depths = jnp.array([-(-k * forward.depth // 12) for k in LAYERS], jnp.int32)
    layer = jax.random.choice(layer_key, depths)
    return forward.mix(tuple(views), partner, share, layer, run_key).logits, ()
  unmixed = forward(*views, key=run_key)
  features = jnp.concatenate([outputs.features for outputs in unmixed])
  return forward.classify(mixed(features, partner, share)).logits, unmixed

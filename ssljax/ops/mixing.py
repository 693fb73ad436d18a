"""Mixup of texts (arXiv 1710.09412): pairs, shares and the mixed logits.

"pooled" mixes the features that the classifier reads (manifold mixup). "hidden" mixes
the hidden states after a layer drawn at each step, position by position (TMix, Chen et
al. 2020, arXiv 2004.12239).
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
LAYERS = (7, 9, 12)  # TMix's best set, for 12 layers; scaled for other depths
REPEAT = 1 << 24  # larger than the number of any text, see `pairs`


def pairs(key: Array, rows: Sequence[Array], alpha: float) -> tuple[Array, Array]:
  """Draws partners and shares for n texts; the order of the texts has no influence.

  Args:
    rows: for each view, the row numbers of its texts, i32; n texts in total.
    alpha: the parameter of the Beta distribution; with 0 (the limit), nothing is mixed.

  Returns:
    (partner, share). `partner`, i32 [n], is a permutation: the texts form a random
    circle, and each text's partner is the next text. `share`, f32 [n], is each text's
    share of its mixture: the larger of x and 1 - x, with x from Beta(alpha, alpha)
    (MixMatch, equations 8 to 11).
  """
  # Number the texts of all views, so that one call draws for all of them. Repeated rows
  # (in a batch larger than the labelled set) get different numbers.
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
    (logits, unmixed). `logits`, f32 [n, C], belong to the mixed texts, in the order of
    `views`. `unmixed` has the outputs for each view before mixing, which "pooled"
    computes anyway; it is () for "hidden".
  """
  run_key, layer_key = jax.random.split(key)
  if where == "hidden":
    depths = jnp.array([-(-k * forward.depth // 12) for k in LAYERS], jnp.int32)
    layer = jax.random.choice(layer_key, depths)
    return forward.mix(tuple(views), partner, share, layer, run_key).logits, ()
  unmixed = forward(*views, key=run_key)
  features = jnp.concatenate([outputs.features for outputs in unmixed])
  return forward.classify(mixed(features, partner, share)).logits, unmixed

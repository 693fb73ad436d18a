"""VAT (Miyato et al. 2018, arXiv 1704.03976): the worst small change changes little.

  r = epsilon * s * g / |g|,  g = H d,  d random,  H the Hessian of KL(p(u) || p(u + r))
  loss = CE(x) + scale * ramp(t) * mean KL(sg p(u) || p(u + r)) + entropy * mean H(p(u))

r is added to the word embeddings, once, before positions and LayerNorm (published code
sends what LayerNorm gave through it again); its length is that over all tokens of a
text (Miyato et al. 2017, arXiv 1605.07725). One power iteration. The paper approximates
H d by a gradient at a small distance xi; here it is the limit, J'(diag(p) - pp')J d, by
one pass forward and one back, so that there is no xi for float32 to lose.

`epsilon` counts in units of s, the root mean square of a text's word embeddings: the
2017 paper scales its embeddings to a variance of 1. d is drawn for each place in a
text, alike for all texts. Clean and changed texts share their dropout.
"""

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Term, cross_entropy
from ssljax.ops import draws, ramps
from ssljax.options import Amount, Share


def make(
  epsilon: Amount = 6.0, scale: Amount = 1.0, entropy: Amount = 0.06, ramp: Share = 0.4
) -> Method:
  """Keywords as above; `ramp` is a share of the run."""

  def loss(forward, batch, state, clock):
    draw_key, own_key, key = jax.random.split(clock.key, 3)
    words = forward.embed(batch.unlabelled.views["weak"])
    change = worst(forward, jax.lax.stop_gradient(words), draw_key, key)
    labelled = forward(batch.labelled.views["weak"], key=own_key)
    plain = forward(words, key=key).logits
    changed = forward(added(words, [epsilon * a for a in change]), key=key).logits
    p = jax.nn.softmax(plain)
    target = jax.lax.stop_gradient(p)
    own = cross_entropy(plain, p)  # the entropy
    apart = cross_entropy(changed, target) - jax.lax.stop_gradient(own)
    terms = {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": Term(apart, 1.0, scale * ramps.linear(clock.progress, ramp)),
      "entropy": Term(own, 1.0, entropy),
    }
    return terms, state, Assignment(target, jnp.ones(target.shape[0], jnp.float32))

  return Method(Needs(views=("weak",), soft=True), lambda sizes: (), loss)


def worst(forward, words, draw_key, key):
  """r / epsilon for the rows of `words`, f32 [S, R, L, E] each, without gradient."""
  rows = words.rows
  drawn = [noise(r, draw_key) for r in rows]

  def logits(change):
    return forward(added(words, change), key=key, gradient=False).logits

  nothing = [jnp.zeros_like(a) for a in drawn]
  z, moved = jax.jvp(logits, (nothing,), (of_unit(rows, drawn),))
  p = jax.nn.softmax(z)
  # Of the likeliest class, which changes nothing: where a text is all but sure, the
  # difference below would else be rounding.
  moved = moved - jnp.take_along_axis(moved, z.argmax(-1, keepdims=True), -1)
  moved = p * (moved - (p * moved).sum(-1, keepdims=True))  # (diag(p) - pp') J d
  (found,) = jax.vjp(logits, nothing)[1](moved)
  size = [root_mean_square(r) for r in rows]
  pairs = zip(size, of_unit(rows, found), strict=True)
  return jax.lax.stop_gradient([one[..., None] * a for one, a in pairs])


def noise(rows, key):
  """f32 [S, R, L, E], Gaussian; by the token's place in its text, not in its row."""
  length, width = rows.embedding.shape[-2:]
  draw = lambda key: jax.random.normal(key, (width,))
  table = draws.by_row(key, jnp.arange(length), draw)
  begin = jnp.take_along_axis(rows.first, jnp.maximum(rows.segment - 1, 0), axis=-1)
  return table[jnp.maximum(jnp.arange(length) - begin, 0)]


def added(texts, change):
  """The texts with `change` added to their word embeddings."""
  rows = [
    r._replace(embedding=r.embedding + a)
    for r, a in zip(texts.rows, change, strict=True)
  ]
  return texts._replace(rows=tuple(rows))


def of_unit(rows, change):
  """Each of `change` at length 1, text by text."""
  return [unit(r, a) for r, a in zip(rows, change, strict=True)]


def unit(rows, change):
  """f32 [S, R, L, E] at length 1 over all tokens of each text, 0 in padding."""
  # By the largest entry first: squares of small gradients would be 0.
  member = of_text(rows)
  top = jnp.abs(change).max(-1)  # [S, R, L]
  top = (member * jnp.where(member > 0, top[..., None], 0).max(-2, keepdims=True)).sum(
    -1
  )
  change = jnp.where(top[..., None] > 0, change / jnp.maximum(top, 1e-38)[..., None], 0)
  length = jnp.sqrt(summed(rows, (change**2).sum(-1)))[..., None]
  return jnp.where(length > 0, change / jnp.maximum(length, 1e-38), 0.0)


def root_mean_square(rows):
  """f32 [S, R, L], at each token that of the word embeddings of its text."""
  square = summed(rows, (rows.embedding**2).mean(-1))
  return jnp.sqrt(square / jnp.maximum(summed(rows, jnp.ones_like(square)), 1.0))


def summed(rows, value):
  """The sum of f32 [S, R, L] over each text, at all of its tokens; 0 in padding."""
  member = of_text(rows)
  total = jnp.einsum("srlm,srl->srm", member, value, precision="highest")
  return jnp.einsum("srlm,srm->srl", member, total, precision="highest")


def of_text(rows):
  """f32 [S, R, L, M], 1 where a token is of the text in a slot."""
  slots = jnp.arange(1, rows.first.shape[-1] + 1)
  return (rows.segment[..., None] == slots).astype(jnp.float32)

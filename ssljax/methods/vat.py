"""VAT (Miyato et al. 2018, arXiv 1704.03976): robust to the worst small perturbation.

  r = epsilon * s * g / |g|,  g = H d,  d random,  H the Hessian of KL(p(u) || p(u + r))
  loss = CE(x) + scale * ramp(t) * mean KL(sg p(u) || p(u + r)) + entropy * mean H(p(u))

sg stops the gradient. r is added to the word embeddings, before position embeddings and
LayerNorm. (Published code adds r after the LayerNorm, and applies the LayerNorm a
second time.) The norm |g| is over all tokens of a text (Miyato et al. 2017, arXiv
1605.07725). There is one power iteration. The paper approximates H d by a gradient at a
small distance xi. Here H d = J'(diag(p) - pp')J d is computed exactly, in one forward
and one backward pass, where J is the Jacobian of the logits. This avoids the rounding
errors of a small xi.

`epsilon` is in units of s, the root mean square of a text's word embeddings, since the
2017 paper scales its embeddings to a variance of 1. For texts, that paper has an
`epsilon` of 5, no entropy term and no ramp. d is drawn for each position in a text, and
is the same for all texts. The passes over clean and perturbed texts use the same
dropout mask.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Term, cross_entropy, stateless
from ssljax.ops import draws, ramps
from ssljax.options import Amount, Published, Share


def make(
  epsilon: Annotated[
    Amount, "size of the perturbation, relative to embeddings", Published(5.0)
  ] = 6.0,
  scale: Annotated[Amount, "weight of the divergence at the end of the ramp"] = 1.0,
  entropy: Annotated[
    Amount, "weight of the entropy of predictions", Published(0.0)
  ] = 0.06,
  ramp: Annotated[
    Share, "share of the run over which scale rises from 0", Published(0.0)
  ] = 0.4,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def loss(forward, batch, state, clock):
    draw_key, labelled_key, key = jax.random.split(clock.key, 3)
    words = forward.embed(batch.unlabelled.views["weak"])
    direction = worst(forward, jax.lax.stop_gradient(words), draw_key, key)
    labelled = forward(batch.labelled.views["weak"], key=labelled_key)
    clean = forward(words, key=key).logits
    perturbed = perturb(words, [epsilon * a for a in direction])
    perturbed = forward(perturbed, key=key).logits
    p = jax.nn.softmax(clean)
    target = jax.lax.stop_gradient(p)
    p_entropy = cross_entropy(clean, p)
    divergence = cross_entropy(perturbed, target) - jax.lax.stop_gradient(p_entropy)
    terms = {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": Term(divergence, 1.0, scale * ramps.linear(clock.progress, ramp)),
      "entropy": Term(p_entropy, 1.0, entropy),
    }
    return terms, state, Assignment(target, jnp.ones(target.shape[0], jnp.float32))

  return Method(Needs(views=("weak",), soft=True), stateless, loss)


def worst(forward, words, draw_key, key):
  """Returns r / epsilon, f32 [S, R, L, E] for each of `words.rows`; no gradient."""
  rows = words.rows
  drawn = [noise(r, draw_key) for r in rows]

  def logits(change):
    return forward(perturb(words, change), key=key, gradient=False).logits

  zero = [jnp.zeros_like(a) for a in drawn]
  z, moved = jax.jvp(logits, (zero,), (list(map(unit, rows, drawn)),))
  p = jax.nn.softmax(z)
  # Subtracting the value of the most likely class doesn't change the result. Without
  # this, if p is close to 1, the difference below would be mostly rounding error.
  moved = moved - jnp.take_along_axis(moved, z.argmax(-1, keepdims=True), -1)
  moved = p * (moved - (p * moved).sum(-1, keepdims=True))  # (diag(p) - pp') J d
  (gradient,) = jax.vjp(logits, zero)[1](moved)
  pairs = zip(rows, gradient, strict=True)
  return jax.lax.stop_gradient([root_mean_square(r) * unit(r, a) for r, a in pairs])


def noise(rows, key):
  """Gaussian noise f32 [S, R, L, E], drawn for each position within a text."""
  length, width = rows.embedding.shape[-2:]
  draw = lambda key: jax.random.normal(key, (width,))
  table = draws.by_row(key, jnp.arange(length), draw)
  begin = jnp.take_along_axis(rows.first, jnp.maximum(rows.segment - 1, 0), axis=-1)
  return table[jnp.maximum(jnp.arange(length) - begin, 0)]


def perturb(texts, change):
  """The texts with `change` added to their word embeddings."""
  pairs = zip(texts.rows, change, strict=True)
  rows = tuple(r._replace(embedding=r.embedding + a) for r, a in pairs)
  return texts._replace(rows=rows)


def unit(rows, change):
  """Scales f32 [S, R, L, E] so that each text has norm 1; padding gets 0."""
  # Divide by the largest entry first, since squares of small numbers may underflow.
  member = membership(rows)
  top = jnp.abs(change).max(-1, keepdims=True)  # [S, R, L, 1]
  top = jnp.where(member > 0, top, 0).max(-2, keepdims=True)  # [S, R, 1, M]
  top = (member * top).sum(-1, keepdims=True)  # [S, R, L, 1]
  change = jnp.where(top > 0, change / jnp.maximum(top, 1e-38), 0)
  norm = jnp.sqrt(sum_by_text(rows, (change**2).sum(-1)))[..., None]
  return jnp.where(norm > 0, change / jnp.maximum(norm, 1e-38), 0.0)


def root_mean_square(rows):
  """For each token, s of its text; f32 [S, R, L, 1]."""
  square = sum_by_text(rows, (rows.embedding**2).mean(-1))
  tokens = sum_by_text(rows, jnp.ones_like(square))
  return jnp.sqrt(square / jnp.maximum(tokens, 1.0))[..., None]


def sum_by_text(rows, value):
  """Sums f32 [S, R, L] over each text; every token gets the sum, padding gets 0."""
  member = membership(rows)
  total = jnp.einsum("srlm,srl->srm", member, value, precision="highest")
  return jnp.einsum("srlm,srm->srl", member, total, precision="highest")


def membership(rows):
  """f32 [S, R, L, M]: 1 if the token belongs to the text in the slot, 0 if not."""
  slots = jnp.arange(1, rows.first.shape[-1] + 1)
  return (rows.segment[..., None] == slots).astype(jnp.float32)

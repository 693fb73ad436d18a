"""ReFixMatch (Nguyen & Yang 2023, arXiv 2308.07509): unsure texts teach softly.

FixMatch, and for the texts that it leaves out a divergence in place of a label:

  loss = CE(x) + scale * mean m(u) CE(p(strong(u)), argmax q)
       + scale * mean (1 - m(u)) KL(q || softmax(z(strong(u)) / T)),
  q = p(y | weak(u)), m(u) = 1[max q >= threshold]

The strong view's side of the divergence is at temperature T. (Published code gives the
divergence the mask of the sure texts.)
"""

import jax
import jax.numpy as jnp

from ssljax.keywords import Amount, Share
from ssljax.method import Assignment, Method, Rule, Term, consistency, cross_entropy


def make(
  threshold: Share = 0.95, temperature: Amount = 0.5, scale: Amount = 1.0
) -> Method:
  """Args: `threshold` on max q, `temperature` T, `scale` of both unlabelled terms."""

  def assign(state, evidence, clock):
    q = jax.nn.softmax(evidence.logits)
    target = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    weight = (q.max(-1) >= threshold).astype(jnp.float32)
    return Assignment(target, weight, more=q), state

  def extra(state, assigned, strong):
    q = assigned.more
    entropy = cross_entropy(jnp.log(jnp.maximum(q, 1e-30)), q)
    apart = cross_entropy(strong.logits / max(temperature, 1e-6), q) - entropy
    return {"divergence": Term(apart, 1.0 - assigned.weight, scale)}

  return consistency(Rule(lambda sizes: (), assign, extra), scale)

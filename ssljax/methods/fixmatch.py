"""FixMatch (Sohn et al. 2020, arXiv 2001.07685): confident weak labels, strong inputs.

q = p(y | weak(u)), equation 4:
  loss = CE(x) + scale * mean 1[max q >= threshold] * CE(p(y | strong(u)), argmax q),
the mean over the whole unlabelled batch. Labels are hard, so the temperature of some
published code would have no effect and is left out.
"""

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Rule, consistency, stateless
from ssljax.options import Amount, Share


def make(threshold: Share = 0.95, scale: Amount = 1.0) -> Method:
  """Args: `threshold` on max q, `scale` of the unlabelled term (lambda_u)."""

  def assign(state, evidence, clock):
    q = jax.nn.softmax(evidence.logits)
    target = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    weight = (q.max(-1) >= threshold).astype(jnp.float32)
    return Assignment(target, weight), state

  return consistency(Rule(stateless, assign), scale)

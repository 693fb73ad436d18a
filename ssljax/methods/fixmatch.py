"""FixMatch (Sohn et al. 2020, arXiv 2001.07685): the weak view labels the strong.

With q = p(y | weak(u)) (equation 4):

  loss = CE(x) + scale * mean 1[max q >= threshold] CE(p(y | strong(u)), argmax q)

The mean is over the whole unlabelled batch. Some published code has a temperature. It
would have no effect here, since labels are hard.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Rule, consistency, stateless
from ssljax.options import Amount, Share


def make(
  threshold: Annotated[Share, "minimum confidence of a pseudo-label"] = 0.95,
  scale: Annotated[Amount, "weight of the unlabelled loss (lambda_u)"] = 1.0,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def assign(state, evidence, clock):
    q = jax.nn.softmax(evidence.logits)
    target = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    weight = (q.max(-1) >= threshold).astype(jnp.float32)
    return Assignment(target, weight), state

  return consistency(Rule(stateless, assign), scale, Needs(filters=threshold > 0))

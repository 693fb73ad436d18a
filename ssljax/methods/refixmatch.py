"""ReFixMatch (Nguyen & Yang 2023, arXiv 2308.07509): unsure texts get soft labels.

FixMatch, plus a divergence for the texts below its threshold:

  loss = CE(x) + scale * mean m(u) CE(p(strong(u)), argmax q)
       + scale * mean (1 - m(u)) KL(S(q) || p(strong(u))),
  q = p(y | weak(u)), m(u) = 1[max q >= threshold]

S(q) is q^(1/T), normalised, as in the authors' own code. (In their code for a library,
the authors apply a softmax to the probabilities instead, and also divide the strong
logits by T.)
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from ssljax.method import (
  Assignment,
  Method,
  Needs,
  Rule,
  Term,
  consistency,
  cross_entropy,
  stateless,
)
from ssljax.ops import alignment
from ssljax.options import Amount, Share


def make(
  threshold: Annotated[
    Share, "minimum confidence of hard labels; below it, labels are soft"
  ] = 0.95,
  temperature: Annotated[Amount, "T, sharpens soft labels"] = 0.5,
  scale: Annotated[Amount, "weight of both unlabelled losses"] = 1.0,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def assign(state, evidence, clock):
    q = jax.nn.softmax(evidence.logits)
    soft = alignment.sharpened(q, temperature)
    target = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    weight = (q.max(-1) >= threshold).astype(jnp.float32)
    return Assignment(target, weight, more=soft), state

  def extra(state, assigned, strong):
    soft = assigned.more
    entropy = cross_entropy(jnp.log(jnp.maximum(soft, 1e-30)), soft)
    divergence = cross_entropy(strong.logits, soft) - entropy
    return {"divergence": Term(divergence, 1.0 - assigned.weight, scale)}

  return consistency(
    Rule(stateless, assign, extra), scale, Needs(soft=True, filters=threshold > 0)
  )

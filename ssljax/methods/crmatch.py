"""CRMatch (Fan et al. 2021, arXiv 2112.05825): features may differ, labels may not.

FixMatch plus a loss that pushes the features of the two views apart, while both views
keep the same label. d is a separate linear head on the pooled features; sg stops the
gradient:

  loss = CE(x) + scale * mean m CE(p(strong(u)), argmax q)
       + distance * mean m max(0, cos(d(strong(u)), sg d(weak(u)))),
  q = p(y | weak(u)), m = 1[max q >= threshold]

The paper's rotation task is left out, since it is for images.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from ssljax.method import (
  Assignment,
  Head,
  Method,
  Needs,
  Term,
  assign_then_learn,
  cross_entropy,
  stateless,
)
from ssljax.ops import bank
from ssljax.options import Amount, Count, Share


def make(
  threshold: Annotated[Share, "minimum confidence of a pseudo-label"] = 0.95,
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  distance: Annotated[Amount, "weight of the loss that pushes features apart"] = 1.0,
  width: Annotated[Count, "number of outputs of the feature head"] = 128,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def assign(forward, batch, state, clock):
    weak = forward(batch.unlabelled.views["weak"], key=clock.assign_key, gradient=False)
    weak = jax.lax.stop_gradient(weak)
    q = jax.nn.softmax(weak.logits)
    target = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    weight = (q.max(-1) >= threshold).astype(jnp.float32)
    return Assignment(target, weight, more=weak.heads["distance"]), state

  def learn(forward, batch, assigned, clock):
    labelled, strong = forward(*batch.labelled_and("strong"), key=clock.learn_key)
    cosine = bank.cosine(strong.heads["distance"], assigned.more)
    return {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": assigned.term(strong.logits, scale),
      "distance": Term(jnp.maximum(cosine, 0.0), assigned.weight, distance),
    }

  needs = Needs(heads={"distance": Head("linear", width=width)}, filters=threshold > 0)
  return assign_then_learn(needs, stateless, assign, learn)

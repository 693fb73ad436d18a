"""Pseudo-Label (Lee 2013): the model learns its own confident predictions.

There is one view and one pass, and the model learns the label that it predicts:

  loss = CE(x) + scale * ramp(t) * mean 1[max p(u) >= threshold] CE(p(u), argmax p(u))

Lee's ramp alpha(t) (equation 16) is 0 at first, then rises linearly; ours rises
linearly over the first 40% of the run. Lee has no threshold, which is the same as a
threshold of 0, and a `scale` of 3; later comparisons use 0.95 and 1. Lee's ramp lasts
from epoch 100 to 600; the length of the run isn't stated, so `ramp` has no such value.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Term, cross_entropy, stateless
from ssljax.ops import ramps
from ssljax.options import Amount, Published, Share


def make(
  threshold: Annotated[
    Share, "minimum confidence of a pseudo-label", Published(0.0)
  ] = 0.95,
  scale: Annotated[
    Amount, "weight of the unlabelled loss after the ramp", Published(3.0)
  ] = 1.0,
  ramp: Annotated[Share, "share of the run over which scale rises from 0"] = 0.4,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def loss(forward, batch, state, clock):
    labelled, weak = forward(*batch.labelled_and("weak"), key=clock.key)
    p = jax.lax.stop_gradient(jax.nn.softmax(weak.logits))
    target = jax.nn.one_hot(p.argmax(-1), p.shape[-1], dtype=jnp.float32)
    assigned = Assignment(target, (p.max(-1) >= threshold).astype(jnp.float32))
    terms = {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": Term(
        cross_entropy(weak.logits, target),
        assigned.weight,
        scale * ramps.linear(clock.progress, ramp),
      ),
    }
    return terms, state, assigned

  return Method(Needs(views=("weak",), filters=threshold > 0), stateless, loss)

"""DeFixMatch (Schmutz et al. 2023, arXiv 2203.07512): FixMatch without its bias.

FixMatch's unlabelled loss m is also computed on the labelled texts, and subtracted.
This is a control variate, whose expectation is the same as on unlabelled texts:

  m(u) = 1[max p(weak(u)) >= threshold] CE(p(strong(u)), argmax p(weak(u)))
  loss = (mean CE(weak(x)) + mean CE(strong(x))) / 2 + scale * (mean m(u) - mean m(x))

So labelled texts need a strong view as well. The targets of m(u) and m(x) come from the
same pass, without gradient, since they might have different expectations in different
passes. The last term may be negative.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from ssljax.method import (
  Assignment,
  Method,
  Needs,
  Term,
  assign_then_learn,
  cross_entropy,
  stateless,
)
from ssljax.options import Amount, Share


def make(
  threshold: Annotated[Share, "minimum confidence of a pseudo-label"] = 0.95,
  scale: Annotated[
    Amount, "weight of the unlabelled loss and of the control variate"
  ] = 0.5,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def pseudo_label(outputs):
    """Returns the one-hot label f32 [n, C] and the weight f32 [n]."""
    q = jax.nn.softmax(outputs.logits)
    target = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    return target, (q.max(-1) >= threshold).astype(jnp.float32)

  def assign(forward, batch, state, clock):
    x, u = batch.labelled.views, batch.unlabelled.views
    unlabelled, labelled = forward(
      u["weak"], x["weak"], key=clock.assign_key, gradient=False
    )
    target, weight = pseudo_label(unlabelled)
    return Assignment(target, weight, more=pseudo_label(labelled)), state

  def learn(forward, batch, assigned, clock):
    x, u = batch.labelled.views, batch.unlabelled.views
    weak, strong, unlabelled = forward(
      x["weak"], x["strong"], u["strong"], key=clock.learn_key
    )
    control, control_weight = assigned.more
    label = batch.labelled.label
    labelled = cross_entropy(weak.logits, label) + cross_entropy(strong.logits, label)
    return {
      "labelled": Term(labelled / 2),
      "unlabelled": assigned.term(unlabelled.logits, scale),
      "control": Term(cross_entropy(strong.logits, control), control_weight, -scale),
    }

  needs = Needs(labelled_views=("weak", "strong"), filters=threshold > 0)
  return assign_then_learn(needs, stateless, assign, learn)

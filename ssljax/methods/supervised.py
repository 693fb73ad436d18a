"""Supervised training on the labelled texts alone: the line to beat.

loss = mean CE(p(y | x), y). The unlabelled texts are not read. With `labels=0` every
label is used: the all-labels line of the studies.
"""

import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Term, cross_entropy


def make() -> Method:
  """No keywords, no state."""

  def assign(forward, batch, state, clock):
    classes = batch.labelled.label.shape[-1]
    return Assignment(
      jnp.zeros((0, classes), jnp.float32), jnp.zeros(0, jnp.float32)
    ), state

  def learn(forward, batch, assigned, clock):
    labelled = forward(batch.labelled.views["weak"], key=clock.key)
    return {"labelled": Term(cross_entropy(labelled.logits, batch.labelled.label))}

  def loss(forward, batch, state, clock):
    assigned, state = assign(forward, batch, state, clock)
    return learn(forward, batch, assigned, clock), state, assigned

  return Method(Needs(views=()), lambda sizes: (), loss, assign=assign, learn=learn)

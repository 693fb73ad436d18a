"""Supervised training on only the labelled texts: the baseline.

loss = mean CE(p(y | x), y). The unlabelled texts are not read. With `labels=0`, all
labels are used; comparisons use this run as an upper reference.
"""

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


def make() -> Method:
  """Creates the method, which has no keywords and no state."""

  def assign(forward, batch, state, clock):
    classes = batch.labelled.label.shape[-1]
    target = jnp.zeros((0, classes), jnp.float32)
    return Assignment(target, jnp.zeros(0, jnp.float32)), state

  def learn(forward, batch, assigned, clock):
    labelled = forward(batch.labelled.views["weak"], key=clock.key)
    return {"labelled": Term(cross_entropy(labelled.logits, batch.labelled.label))}

  return assign_then_learn(Needs(views=()), stateless, assign, learn)

"""Supervised training on only the labelled texts: the baseline.

loss = mean CE(p(y | x), y). The unlabelled texts are not read. With `labels=0`, all
labels are used; comparisons use this run as an upper reference.

With `view=strong`, x is the strong view. This is how the student of Noisy Student (Xie
et al. 2020, arXiv 1911.04252) trains, together with dropout: see docs/self-training.md.
"""

from typing import Annotated, Literal

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


def make(
  view: Annotated[Literal["weak", "strong"], "view of the labelled texts"] = "weak",
) -> Method:
  """Creates the method, which has no state."""

  def assign(forward, batch, state, clock):
    classes = batch.labelled.label.shape[-1]
    target = jnp.zeros((0, classes), jnp.float32)
    return Assignment(target, jnp.zeros(0, jnp.float32)), state

  def learn(forward, batch, assigned, clock):
    labelled = forward(batch.labelled.views[view], key=clock.key)
    return {"labelled": Term(cross_entropy(labelled.logits, batch.labelled.label))}

  needs = Needs(views=(), labelled_views=(view,))
  return assign_then_learn(needs, stateless, assign, learn)

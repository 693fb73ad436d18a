"""Logit adjustment (Menon et al. 2021, arXiv 2007.07314): training adds the prior.

Whatever the method learns by reads z + tau log pi, pi the labelled class frequency
(equation 10); what votes, and what predicts, reads z, and so classes as if they were of
like size. A class without a labelled text counts as one text.

For labels that are classes: a method whose targets are distributions (UDA, CoMatch and
others) would learn z + tau log pi = log q from its own q = softmax(z), and step by step
favour rare classes more, without end. It is refused.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Method
from ssljax.options import Amount
from ssljax.wrappers import recording_forward

# Where all classes have equally many labelled texts.
EVEN = "balances nothing by their numbers"


class State(NamedTuple):
  inner: Any  # the method's
  prior: jax.Array  # f32 [C], log pi


def make(method: Method, tau: Amount = 1.0) -> Method:
  """Args: `tau` scales the adjustment; 0 leaves the method as it is."""
  if method.needs.mixes:
    raise ValueError(
      "is for labels that are classes and takes no method that mixes them"
    )
  recording_forward.refuse_control(method.needs)
  recording_forward.refuse_votes(method.needs)
  recording_forward.refuse_soft(method.needs)
  heads = recording_forward.voters(method.needs)

  def init(sizes):
    counts = jnp.array(sizes.labelled_counts or [1] * sizes.classes, jnp.float32)
    counts = jnp.maximum(counts, 1.0)
    return State(method.init(sizes), jnp.log(counts / counts.sum()))

  def loss(forward, batch, state, clock):
    def change(said, view, learns):
      return (
        recording_forward.shifted(said, tau * state.prior, heads) if learns else said
      )

    heard = recording_forward.Listening(forward, change)
    terms, inner, assigned = method.loss(heard, batch, state.inner, clock)
    return terms, state._replace(inner=inner), assigned

  return method._replace(init=init, loss=loss, assign=None, learn=None)

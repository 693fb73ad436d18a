"""DebiasPL (Wang et al. 2022, arXiv 2201.01490): classes voted for too often lose.

With m the running mean of the weak predictions, class by class:

  votes read z(weak(u)) - tau log m
  unlabelled texts learn by z(strong(u)) + tau log m

(equations 5 to 7), m that of the steps before, known when the model speaks. tau 0 is
the method itself. Labelled texts are left alone. For labels that are classes: of a
target that is the voted distribution itself the shift is learned anew at each visit,
until all classes are even. (Published code averages over all entries to one number,
which shifts nothing.)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Method
from ssljax.ops import alignment
from ssljax.options import Amount, Share
from ssljax.wrappers import recording_forward


class State(NamedTuple):
  inner: Any  # the method's
  mean: jax.Array  # f32 [C]


def make(method: Method, tau: Amount = 0.4, momentum: Share = 0.999) -> Method:
  """Keywords as above."""
  if method.needs.mixes:
    raise ValueError("shifts unlabelled texts and takes no method that mixes them")
  recording_forward.refuse_control(method.needs)
  recording_forward.refuse_votes(method.needs)
  recording_forward.refuse_soft(method.needs)
  heads = recording_forward.voters(method.needs)

  def init(sizes):
    return State(method.init(sizes), alignment.uniform(sizes.classes))

  def loss(forward, batch, state, clock):
    shift = tau * jnp.log(jnp.maximum(state.mean, 1e-12))
    views = batch.unlabelled.views

    def change(said, view, learns):
      if not any(view is own for own in views.values()):
        return said
      return recording_forward.shifted(said, shift if learns else -shift, heads)

    heard = recording_forward.Listening(forward, change)
    terms, inner, assigned = method.loss(heard, batch, state.inner, clock)
    weak = heard.said(views["weak"], False, clock.key).logits
    p = jax.nn.softmax(weak[:, : state.mean.shape[0]]).mean(0)
    mean = momentum * state.mean + (1.0 - momentum) * jax.lax.stop_gradient(p)
    return terms, State(inner, mean), assigned

  return method._replace(init=init, loss=loss, assign=None, learn=None)

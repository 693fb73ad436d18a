"""SAW (Lai et al. 2022, ICML): rare classes weigh more, among pseudo-labels, too.

Each labelled text weighs w_y, each unlabelled one w'_c of its pseudo-label c (that of
the voters' mean, if there are several), in every term that is a loss of texts, by the
effective number of texts (Cui et al. 2019, arXiv 1901.05555, equation 4):

  w_c ~ (1 - beta) / (1 - beta^n_c), of mean 1 over the classes

n_c of w counts labelled texts; n_c of w' counts the last prediction of each unlabelled
row, anew at each epoch's end (1 for all before the first). A virtual class weighs 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Method
from ssljax.options import Share
from ssljax.wrappers import recording_forward

Array = jax.Array
# Where all classes have equally many labelled texts.
EVEN = "weighs them alike, and unlabelled texts by its own predictions"


class State(NamedTuple):
  inner: Any  # the method's
  labelled: Array  # f32 [C], w
  unlabelled: Array  # f32 [C], w'
  vote: Array  # i32 [N], last prediction, -1 before the first
  epoch_steps: Array  # i32 []


def make(method: Method, beta: Share = 0.999) -> Method:
  """Args: `beta` near 1 weighs by 1 / n_c, 0 not at all."""
  if method.needs.mixes:
    raise ValueError("weighs texts by their label and takes no method that mixes them")
  recording_forward.refuse_control(method.needs)

  def init(sizes):
    counts = jnp.array(sizes.labelled_counts or [1] * sizes.classes, jnp.float32)
    return State(
      method.init(sizes),
      weights(counts, beta),
      jnp.ones(sizes.classes, jnp.float32),
      jnp.full(sizes.unlabelled, -1, jnp.int32),
      jnp.array(sizes.epoch_steps, jnp.int32),
    )

  def loss(forward, batch, state, clock):
    heard = recording_forward.Listening(forward)
    terms, inner, assigned = method.loss(heard, batch, state.inner, clock)
    classes = state.labelled.shape[0]
    own = batch.labelled.label[:, :classes] @ state.labelled
    virtual = assigned.target.shape[-1] - classes
    of_target = jnp.pad(state.unlabelled, (0, virtual), constant_values=1.0)
    other = of_target[assigned.target.argmax(-1)]
    for name, term in terms.items():
      if term.loss.ndim:  # else it is of the batch
        weight = term.weight * (own if name == "labelled" else other)
        terms = {**terms, name: term._replace(weight=weight)}
    weak = heard.said(batch.unlabelled.views["weak"], False, clock.key).logits
    seen = weak[:, :classes].argmax(-1).astype(jnp.int32)
    vote = state.vote.at[batch.unlabelled.index].set(seen)

    def counted(vote):
      hot = vote[:, None] == jnp.arange(classes)
      return weights(hot.sum(0).astype(jnp.float32), beta)

    ends = (clock.step + 1) % state.epoch_steps == 0
    fresh = jax.lax.cond(ends, counted, lambda vote: state.unlabelled, vote)
    return terms, state._replace(inner=inner, unlabelled=fresh, vote=vote), assigned

  return method._replace(init=init, loss=loss, assign=None, learn=None)


def weights(counts: Array, beta: float) -> Array:
  """f32 [C] of mean 1; a class without texts counts as one text."""
  counts = jnp.maximum(counts, 1.0)
  if beta == 1:
    weight = 1.0 / counts
  else:
    weight = (1.0 - beta) / (1.0 - beta**counts)
  return weight / weight.mean()

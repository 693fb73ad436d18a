"""SAW (Lai et al. 2022, ICML): weights rare classes up, pseudo-labels included.

Every loss term that is per text gets a weight: w_y for labelled texts, w'_c for
unlabelled texts with pseudo-label c (that of the voters' mean, if there are several).
The weights follow the effective number of texts (Cui et al. 2019, arXiv 1901.05555,
equation 4):

  w_c ~ (1 - beta) / (1 - beta^n_c), of mean 1 over the classes

n_c of w counts labelled texts; n_c of w' counts the last predictions of the unlabelled
rows, updated at the end of each epoch (w' is 1 until then). A virtual class has
weight 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Method
from ssljax.ops import alignment
from ssljax.options import Share
from ssljax.wrappers import requirements
from ssljax.wrappers.recording_forward import VOTES, RecordingForward

Array = jax.Array
# What it does if all classes have the same number of labelled texts.
EVEN = "weights unlabelled texts only, by its own predictions"


class State(NamedTuple):
  inner: Any  # of the method
  labelled: Array  # f32 [C], w
  unlabelled: Array  # f32 [C], w'
  vote: Array  # i32 [N], last prediction, -1 before the first
  epoch_steps: Array  # i32 []


def make(method: Method, beta: Share = 0.999) -> Method:
  """Args: `beta` close to 1 weights by 1 / n_c, 0 gives equal weights."""
  requirements.no_mixing(method.needs)
  requirements.no_labelled_targets(method.needs)

  def init(sizes):
    return State(
      method.init(sizes),
      weights(alignment.labelled_counts(sizes), beta),
      jnp.ones(sizes.classes, jnp.float32),
      jnp.full(sizes.unlabelled, -1, jnp.int32),
      jnp.array(sizes.epoch_steps, jnp.int32),
    )

  def loss(forward, batch, state, clock):
    recorder = RecordingForward(forward, batch)
    terms, inner, assigned = method.loss(recorder, batch, state.inner, clock)
    classes = state.labelled.shape[0]
    labelled = batch.labelled.label[:, :classes] @ state.labelled
    virtual = assigned.target.shape[-1] - classes
    by_class = jnp.pad(state.unlabelled, (0, virtual), constant_values=1.0)
    unlabelled = by_class[assigned.target.argmax(-1)]
    for name, term in terms.items():
      if term.loss.ndim:  # per text, not per batch
        weight = term.weight * (labelled if name == "labelled" else unlabelled)
        terms = {**terms, name: term._replace(weight=weight)}
    weak = recorder.outputs(VOTES, clock.key).logits
    predicted = weak[:, :classes].argmax(-1).astype(jnp.int32)
    vote = state.vote.at[batch.unlabelled.index].set(predicted)

    def recount(vote):
      hot = vote[:, None] == jnp.arange(classes)
      return weights(hot.sum(0).astype(jnp.float32), beta)

    epoch_ends = (clock.step + 1) % state.epoch_steps == 0
    by_class = jax.lax.cond(epoch_ends, recount, lambda vote: state.unlabelled, vote)
    return terms, state._replace(inner=inner, unlabelled=by_class, vote=vote), assigned

  return method._replace(init=init, loss=loss, assign=None, learn=None)


def weights(counts: Array, beta: float) -> Array:
  """f32 [C] of mean 1; a class without texts counts as having one."""
  counts = jnp.maximum(counts, 1.0)
  if beta == 1:
    weight = 1.0 / counts
  else:
    weight = (1.0 - beta) / (1.0 - beta**counts)
  return weight / weight.mean()

"""SAW (Lai et al. 2022, ICML): larger weights for texts of rare classes.

The weights apply to every loss term that has one loss per text. A labelled text of
class y has the weight w_y. An unlabelled text with pseudo-label c has the weight w'_c;
if there are several voters, c is the argmax of their mean target. The weights follow
the effective number of texts (Cui et al. 2019, arXiv 1901.05555, equation 4):

  w_c ~ (1 - beta) / (1 - beta^n_c), scaled to mean 1 over the classes
  beta = (N - 1) / N, N = mean n_c

For w, n_c is the number of labelled texts. For w', n_c is the number of unlabelled rows
whose last prediction is c. These are counted at the end of each epoch, and for the
first time after the share `start` of the run, if that is earlier; before, w' is 1. If
the run has only one epoch, the first count stays. A virtual class has weight 1.

The authors' code computes beta in the same way; N is the mean before a class without
texts counts as having one. (One of its scripts, `train_example.sh`, fixes beta at 0.99
instead.) They use pseudo-labels of all unlabelled rows, and we those of the rows
visited so far. With a fixed beta (`by_count=false`, as in version 0.1.0), all weights
are 1 if the classes are much larger than 1 / (1 - beta).
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Method
from ssljax.ops import averages
from ssljax.options import Absent, Share
from ssljax.wrappers.recording_forward import VOTES, RecordingForward
from ssljax.wrappers.requirements import refuse

Array = jax.Array
# What the wrapper does if all classes have the same number of labelled texts.
EVEN = "weights only unlabelled texts, by their predicted class"


class State(NamedTuple):
  inner: Any  # the method's state
  labelled: Array  # f32 [C], w
  unlabelled: Array  # f32 [C], w'
  vote: Array  # i32 [N], last prediction, -1 before the first
  epoch_steps: Array  # i32 []


def make(
  method: Method,
  beta: Annotated[
    Share, "fixed beta: 1 gives weights of 1 / n_c, 0 gives equal weights"
  ] = 0.999,
  by_count: Annotated[
    bool, "beta follows from the mean size of a class, instead", Absent(False)
  ] = True,
  start: averages.Start = averages.START,
) -> Method:
  """Wraps the method; see the module docstring for the equations."""
  refuse(method.needs, "mixing", "labelled_targets")
  fixed = None if by_count else beta

  def init(sizes):
    counts = sizes.labelled_counts or [1] * sizes.classes
    return State(
      method.init(sizes),
      weights(jnp.array(counts, jnp.float32), fixed),
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
      return weights(hot.sum(0).astype(jnp.float32), fixed)

    due = averages.is_due(clock, state.epoch_steps, start)
    by_class = jax.lax.cond(due, recount, lambda vote: state.unlabelled, vote)
    return terms, state._replace(inner=inner, unlabelled=by_class, vote=vote), assigned

  return method._replace(init=init, loss=loss, assign=None, learn=None)


def weights(counts: Array, beta: float | None) -> Array:
  """f32 [C] of mean 1; a class without texts counts as having one.

  Args:
    beta: None for (N - 1) / N, with N the mean of the counts.
  """
  mean = jnp.maximum(counts.mean(), 1.0)
  counts = jnp.maximum(counts, 1.0)
  if beta is None:
    # beta^n as exp(n log beta), since beta is close to 1.
    weight = 1.0 / -jnp.expm1(counts * jnp.log1p(-1.0 / mean))
  else:
    weight = 1.0 / counts if beta == 1 else (1.0 - beta) / (1.0 - beta**counts)
  return weight / weight.mean()

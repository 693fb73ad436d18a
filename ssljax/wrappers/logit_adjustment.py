"""Logit adjustment (Menon et al. 2021, arXiv 2007.07314): adds the prior in training.

Every trained pass outputs z + tau log pi, pi the labelled class frequency (equation
10); targets and predictions are computed from z, and so classify as if all classes were
equally frequent. A class without labelled texts counts as having one.

Only for methods with hard targets. If the target is a distribution (UDA, CoMatch and
others), the model would learn z + tau log pi = log q from its own q = softmax(z), and
favour rare classes more and more at each step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Method
from ssljax.ops import alignment
from ssljax.options import Amount
from ssljax.wrappers import recording_forward, requirements
from ssljax.wrappers.recording_forward import RecordingForward

# What it does if all classes have the same number of labelled texts.
EVEN = "has no effect on the class balance"


class State(NamedTuple):
  inner: Any  # of the method
  prior: jax.Array  # f32 [C], log pi


def make(method: Method, tau: Amount = 1.0) -> Method:
  """Args: `tau` scales the adjustment; with 0 the method is unchanged."""
  requirements.no_mixing(method.needs)
  requirements.no_labelled_targets(method.needs)
  requirements.votes_of_weak_view_only(method.needs)
  requirements.hard_targets(method.needs)
  voters = recording_forward.voters(method.needs)

  def init(sizes):
    counts = alignment.labelled_counts(sizes)
    return State(method.init(sizes), jnp.log(counts / counts.sum()))

  def loss(forward, batch, state, clock):
    def adjust(outputs, name):
      if not name.trains:
        return outputs
      return recording_forward.shift_logits(outputs, tau * state.prior, voters)

    recorder = RecordingForward(forward, batch, adjust)
    terms, inner, assigned = method.loss(recorder, batch, state.inner, clock)
    return terms, state._replace(inner=inner), assigned

  return method._replace(init=init, loss=loss, assign=None, learn=None)

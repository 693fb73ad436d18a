"""Logit adjustment (Menon et al. 2021, arXiv 2007.07314): adds the prior in training.

Every trained pass outputs z + tau log pi, where pi is the labelled class frequency
(equation 10). Targets and predictions are computed from z, so they treat all classes as
equally frequent. A class without labelled texts counts as having one.

The authors train on labelled data only, so pi is the class frequency of all training
texts. Here, unlabelled texts are trained as well, with the same pi. The authors' other
variant, which trains as usual and subtracts tau log pi from the predicted logits
(equation 9), isn't here.

The method must have hard targets. If the target were the distribution q = softmax(z)
that the model predicts, as in UDA, CoMatch and others, the model would learn
z + tau log pi = log q, and favour rare classes more with each step.
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Method
from ssljax.ops import alignment
from ssljax.options import Amount
from ssljax.wrappers.recording_forward import RecordingForward, shift_logits
from ssljax.wrappers.requirements import refuse

# What the wrapper does if all classes have the same number of labelled texts.
EVEN = "has no effect on the class balance"


class State(NamedTuple):
  inner: Any  # the method's state
  prior: jax.Array  # f32 [C], log pi


def make(
  method: Method,
  tau: Annotated[Amount, "strength of the adjustment; 0 turns it off"] = 1.0,
) -> Method:
  """Wraps the method; see the module docstring for the equations."""
  refuse(method.needs, "mixing", "labelled_targets", "other_votes", "soft_targets")

  def init(sizes):
    counts = alignment.labelled_counts(sizes)
    return State(method.init(sizes), jnp.log(counts / counts.sum()))

  def loss(forward, batch, state, clock):
    def adjust(outputs, name):
      if not name.trains:
        return outputs
      return shift_logits(outputs, tau * state.prior)

    recorder = RecordingForward(forward, batch, adjust)
    terms, inner, assigned = method.loss(recorder, batch, state.inner, clock)
    return terms, state._replace(inner=inner), assigned

  return method._replace(init=init, loss=loss, assign=None, learn=None)

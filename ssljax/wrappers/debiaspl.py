"""DebiasPL (Wang et al. 2022, arXiv 2201.01490): corrects for over-predicted classes.

m is the running mean of the weak predictions, one number per class (equations 5 to 7):

  targets are computed from  z(weak(u)) - tau log m
  unlabelled texts train     z(strong(u)) + tau log m

m covers only the previous steps, so it is known before the model runs. In the authors'
code, this is only so for the targets: the trained logits are shifted by the m that
includes the current batch. As there, m starts at 1/C with `time_constant=0`; otherwise
its memory fits the length of the run (`ops.averages`). The authors use a tau of 0.4,
and a momentum of 0.999 with 1% of the labels and 0.99 with 0.2%.

With tau = 0, the method is unchanged. The loss of labelled texts doesn't change. The
method must have hard targets. If the target were the predicted distribution, the model
would learn the shift again at each visit, until all classes are equally likely.
(Published code averages m over the classes. The result is one number, which has no
effect.)
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Method
from ssljax.ops import alignment, averages
from ssljax.options import Amount
from ssljax.wrappers.recording_forward import VOTES, RecordingForward, shift_logits
from ssljax.wrappers.requirements import refuse


class State(NamedTuple):
  inner: Any  # the method's state
  mean: jax.Array  # f32 [C]


def make(
  method: Method,
  tau: Annotated[Amount, "strength of the correction; 0 turns it off"] = 0.4,
  momentum: averages.Momentum = 0.999,
  time_constant: averages.TimeConstant = averages.TIME_CONSTANT,
) -> Method:
  """Wraps the method; see the module docstring for the equations."""
  refuse(method.needs, "mixing", "labelled_targets", "other_votes", "soft_targets")

  def init(sizes):
    return State(method.init(sizes), alignment.uniform(sizes.classes))

  def loss(forward, batch, state, clock):
    shift = tau * jnp.log(jnp.maximum(state.mean, 1e-12))

    def debias(outputs, name):
      if name.part != "unlabelled":
        return outputs
      signed = shift if name.trains else -shift
      return shift_logits(outputs, signed)

    recorder = RecordingForward(forward, batch, debias)
    terms, inner, assigned = method.loss(recorder, batch, state.inner, clock)
    weak = recorder.outputs(VOTES, clock.key).logits
    p = jax.nn.softmax(weak[:, : state.mean.shape[0]]).mean(0)
    share = averages.share_of_newest(clock, momentum, time_constant)
    mean = averages.updated(state.mean, jax.lax.stop_gradient(p), share)
    return terms, State(inner, mean), assigned

  return method._replace(init=init, loss=loss, assign=None, learn=None)

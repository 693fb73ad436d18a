"""Mean Teacher (Tarvainen & Valpola 2017, arXiv 1703.01780): the average teaches.

The teacher is the exponential moving average of the parameters (`--config.ema`), the
student is the model:

  loss = CE(x) + scale * ramp(t) * mean_u mean_c (p_c(strong(u)) - p'_c(weak(u)))^2

p' is the teacher's and takes no gradient; the student's side does. (Published code took
both from the teacher, or let the teacher be the student: the loss was 0.) Like the
student, the teacher reads with dropout unless `--config.weak_dropout=false`; what is
evaluated is the teacher, as in the paper. There labelled texts agree, too
(`--config.include_labelled=true`), and the ramp is sigmoid-shaped; here it is linear
over the first 40% of the run.
"""

import jax
import jax.numpy as jnp

from ssljax.keywords import Amount, Share
from ssljax.method import Assignment, Method, Needs, Term, cross_entropy
from ssljax.ops import ramps


def make(scale: Amount = 50.0, ramp: Share = 0.4) -> Method:
  """Args: `scale` at the end of the ramp, `ramp` as a share of the run."""

  def assign(forward, batch, state, clock):
    key = jax.random.fold_in(clock.key, 0)
    teacher = forward(batch.unlabelled.views["weak"], key=key, teacher=True)
    target = jax.lax.stop_gradient(jax.nn.softmax(teacher.logits))
    return Assignment(target, jnp.ones(target.shape[0], jnp.float32)), state

  def learn(forward, batch, assigned, clock):
    labelled, student = forward(
      batch.labelled.views["weak"],
      batch.unlabelled.views["strong"],
      key=jax.random.fold_in(clock.key, 1),
    )
    gap = jax.nn.softmax(student.logits) - assigned.target
    return {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": Term(
        (gap**2).mean(-1), 1.0, scale * ramps.linear(clock.progress, ramp)
      ),
    }

  def loss(forward, batch, state, clock):
    assigned, state = assign(forward, batch, state, clock)
    return learn(forward, batch, assigned, clock), state, assigned

  return Method(Needs(teacher=True), lambda sizes: (), loss, assign=assign, learn=learn)

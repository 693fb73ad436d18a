"""The loss and the method of Pi-Model and Mean Teacher: two passes must agree."""

import jax
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
from ssljax.ops import ramps

Array = jax.Array


def square(p: Array, target: Array) -> Array:
  """(C / 2) sum_c (p_c - target_c)^2, f32 [n] of f32 [n, C].

  The papers have mean_c (p_c - target_c)^2. If p is close to uniform, its gradient on
  the logits is 2 / C^2 times the gradient of cross-entropy. So a weight tuned with ten
  classes is 25 times as strong with two. With our factor, the gradient is p - target
  for any C, the same as for cross-entropy. Therefore a weight suits any C: the papers'
  weight w is our weight 2 w / C^2.
  """
  return target.shape[-1] / 2 * ((p - target) ** 2).sum(-1)


def agreement(teacher: bool, scale: float, ramp: float) -> Method:
  """CE(x) + scale * ramp(t) * mean_u square(p(strong(u)), sg p'(weak(u))).

  Args:
    teacher: whether p' is predicted with the averaged parameters, not the current ones.
    scale: the weight at the end of the ramp.
    ramp: the length of the ramp, as a share of the run.
  """

  def assign(forward, batch, state, clock):
    view = batch.unlabelled.views["weak"]
    weak = forward(view, key=clock.assign_key, teacher=teacher, gradient=False)
    target = jax.lax.stop_gradient(jax.nn.softmax(weak.logits))
    return Assignment(target, jnp.ones(target.shape[0], jnp.float32)), state

  def learn(forward, batch, assigned, clock):
    labelled, strong = forward(*batch.labelled_and("strong"), key=clock.learn_key)
    error = square(jax.nn.softmax(strong.logits), assigned.target)
    return {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": Term(error, 1.0, scale * ramps.linear(clock.progress, ramp)),
    }

  needs = Needs(teacher=teacher, soft=True)
  return assign_then_learn(needs, stateless, assign, learn)

"""Two looks at a text must agree in their probabilities (Pi-Model, Mean Teacher)."""

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Term, cross_entropy
from ssljax.ops import ramps

Array = jax.Array


def square(p: Array, target: Array) -> Array:
  """(C / 2) sum_c (p_c - target_c)^2, f32 [n] of f32 [n, C], for any C as CE pulls.

  The papers' mean_c (p_c - target_c)^2 has near uniform p a gradient on logits of
  2 / C^2 times that of cross-entropy: a weight that was found with ten classes is 25
  times as much with two. Here it is (p - target) itself, as cross-entropy's.
  """
  return target.shape[-1] / 2 * ((p - target) ** 2).sum(-1)


def agreement(teacher: bool, scale: float, ramp: float) -> Method:
  """CE(x) + scale * ramp(t) * mean_u square(p(strong(u)), sg p'(weak(u))).

  Args:
    teacher: p' is that of the parameters' average, else the model's own.
    scale: at the end of the ramp.
    ramp: a share of the run.
  """

  def assign(forward, batch, state, clock):
    key = jax.random.fold_in(clock.key, 0)
    view = batch.unlabelled.views["weak"]
    weak = forward(view, key=key, teacher=teacher, gradient=False)
    target = jax.lax.stop_gradient(jax.nn.softmax(weak.logits))
    return Assignment(target, jnp.ones(target.shape[0], jnp.float32)), state

  def learn(forward, batch, assigned, clock):
    labelled, strong = forward(
      batch.labelled.views["weak"],
      batch.unlabelled.views["strong"],
      key=jax.random.fold_in(clock.key, 1),
    )
    error = square(jax.nn.softmax(strong.logits), assigned.target)
    return {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": Term(error, 1.0, scale * ramps.linear(clock.progress, ramp)),
    }

  def loss(forward, batch, state, clock):
    assigned, state = assign(forward, batch, state, clock)
    return learn(forward, batch, assigned, clock), state, assigned

  needs = Needs(teacher=teacher, soft=True)
  return Method(needs, lambda sizes: (), loss, assign=assign, learn=learn)

"""Pi-Model (Laine & Aila 2017, arXiv 1610.02242): two looks at a text must agree.

  loss = CE(x) + scale * ramp(t) * mean_u mean_c (p_c(strong(u)) - sg p_c(weak(u)))^2

The paper's stochastic looks are dropout and the augmentation, so they are the two views
here; `--config.strong=self` leaves dropout alone, as published text code has it. Only
the second look takes a gradient, as in that code. The paper has labelled texts agree,
too (`--config.include_labelled=true`). The ramp is linear over the first 40% of the run
(the paper's is Gaussian over the first 80 epochs of 300).
"""

import jax
import jax.numpy as jnp

from ssljax.keywords import Amount, Share
from ssljax.method import Assignment, Method, Needs, Term, cross_entropy
from ssljax.ops import ramps


def make(scale: Amount = 10.0, ramp: Share = 0.4) -> Method:
  """Args: `scale` at the end of the ramp, `ramp` as a share of the run."""

  def assign(forward, batch, state, clock):
    key = jax.random.fold_in(clock.key, 0)
    weak = forward(batch.unlabelled.views["weak"], key=key, gradient=False)
    target = jax.lax.stop_gradient(jax.nn.softmax(weak.logits))
    return Assignment(target, jnp.ones(target.shape[0], jnp.float32)), state

  def learn(forward, batch, assigned, clock):
    labelled, strong = forward(
      batch.labelled.views["weak"],
      batch.unlabelled.views["strong"],
      key=jax.random.fold_in(clock.key, 1),
    )
    gap = jax.nn.softmax(strong.logits) - assigned.target
    return {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": Term(
        (gap**2).mean(-1), 1.0, scale * ramps.linear(clock.progress, ramp)
      ),
    }

  def loss(forward, batch, state, clock):
    assigned, state = assign(forward, batch, state, clock)
    return learn(forward, batch, assigned, clock), state, assigned

  return Method(Needs(), lambda sizes: (), loss, assign=assign, learn=learn)

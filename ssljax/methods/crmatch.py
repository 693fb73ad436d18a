"""CRMatch (Fan et al. 2021, arXiv 2112.05825): features may differ, labels may not.

FixMatch, and a loss that sets the features of the two views apart while they must keep
one label: with d a linear head of its own on the pooled features,

  loss = CE(x) + scale * mean m CE(p(strong(u)), argmax q)
       + distance * mean m max(0, cos(d(strong(u)), sg d(weak(u)))),
  q = p(y | weak(u)), m = 1[max q >= threshold]

The paper's rotation task is for images and left out.
"""

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Head, Method, Needs, Term, cross_entropy
from ssljax.ops import bank
from ssljax.options import Amount, Count, Share


def make(
  threshold: Share = 0.95,
  scale: Amount = 1.0,
  distance: Amount = 1.0,
  width: Count = 128,
) -> Method:
  """Args: `distance` weighs the feature term, `width` is that of d."""

  def assign(forward, batch, state, clock):
    key = jax.random.fold_in(clock.key, 0)
    weak = forward(batch.unlabelled.views["weak"], key=key, gradient=False)
    weak = jax.lax.stop_gradient(weak)
    q = jax.nn.softmax(weak.logits)
    target = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    weight = (q.max(-1) >= threshold).astype(jnp.float32)
    return Assignment(target, weight, more=weak.heads["distance"]), state

  def learn(forward, batch, assigned, clock):
    labelled, strong = forward(
      batch.labelled.views["weak"],
      batch.unlabelled.views["strong"],
      key=jax.random.fold_in(clock.key, 1),
    )
    near = bank.cosine(strong.heads["distance"], assigned.more)
    return {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": Term(
        cross_entropy(strong.logits, assigned.target), assigned.weight, scale
      ),
      "distance": Term(jnp.maximum(near, 0.0), assigned.weight, distance),
    }

  def loss(forward, batch, state, clock):
    assigned, state = assign(forward, batch, state, clock)
    return learn(forward, batch, assigned, clock), state, assigned

  return Method(
    Needs(heads={"distance": Head("linear", width=width)}),
    lambda sizes: (),
    loss,
    assign=assign,
    learn=learn,
  )

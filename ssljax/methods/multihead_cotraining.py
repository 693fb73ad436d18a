"""Multihead Co-training (Chen et al. 2022, arXiv 2107.04795): peers that agree teach.

Three heads h on one encoder. The label of head h is the one its two peers agree on in
the weak view; where they do not, the head learns nothing from the text:

  loss = sum_h CE(z_h(x), y)
       + scale * (1/3) sum_h mean_u 1[y_i = y_j] CE(z_h(strong(u)), y_i)

The authors' code sums the last term over the heads, which is `scale=3`, and has a
strong view for each of them, where all read one here. `threshold` above 0 also asks
each peer for that confidence. Prediction is the mean of the heads' logits.
"""

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Head, Method, Needs, Term, cross_entropy
from ssljax.options import Amount, Share

PEERS = ((1, 2), (0, 2), (0, 1))  # of each head


def make(threshold: Share = 0.0, scale: Amount = 1.0) -> Method:
  """Keywords as above."""

  def assign(forward, batch, state, clock):
    key = jax.random.fold_in(clock.key, 0)
    weak = forward(batch.unlabelled.views["weak"], key=key, gradient=False)
    q = jax.lax.stop_gradient(jax.nn.softmax(weak.heads["voters"]))  # [U, H, C]
    vote, sure = q.argmax(-1), q.max(-1) >= threshold  # [U, H]
    peers = jnp.array(PEERS)
    agree = vote[:, peers[:, 0]] == vote[:, peers[:, 1]]
    weight = (agree & sure[:, peers].all(-1)).astype(jnp.float32)  # [U, H]
    hot = jax.nn.one_hot(vote[:, peers[:, 0]], q.shape[-1], dtype=jnp.float32)
    # Reported as one label a text: that of the heads that learn, else the mean.
    share = jnp.where(weight.sum(1, keepdims=True) > 0, weight, 1.0)
    target = (share[..., None] * hot).sum(1) / share.sum(1, keepdims=True)
    scalars = {"agreement": agree.mean(dtype=jnp.float32)}
    return Assignment(target, weight.mean(1), scalars, (hot, weight)), state

  def learn(forward, batch, assigned, clock):
    labelled, strong = forward(
      batch.labelled.views["weak"],
      batch.unlabelled.views["strong"],
      key=jax.random.fold_in(clock.key, 1),
    )
    hot, weight = assigned.more
    error = cross_entropy(strong.heads["voters"], hot)  # [U, H]
    own = cross_entropy(labelled.heads["voters"], batch.labelled.label[:, None])
    return {
      "labelled": Term(own.sum(1)),
      "unlabelled": Term((weight * error).mean(1), 1.0, scale),
    }

  def loss(forward, batch, state, clock):
    assigned, state = assign(forward, batch, state, clock)
    return learn(forward, batch, assigned, clock), state, assigned

  return Method(
    Needs(heads={"voters": Head("classifier", count=len(PEERS))}),
    lambda sizes: (),
    loss,
    predict=lambda outputs: outputs.heads["voters"].mean(1),
    assign=assign,
    learn=learn,
  )

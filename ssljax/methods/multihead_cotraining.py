"""Multihead Co-training (Chen et al. 2022, arXiv 2107.04795): agreeing peers teach.

One encoder has three classifier heads. The other two heads, i and j, are the peers of
head h. If both predict the same label for the weak view, h learns this label. If not, h
ignores the text:

  loss = sum_h CE(z_h(x), y)
       + scale * (1/3) sum_h mean_u 1[y_i = y_j] CE(z_h(strong(u)), y_i)

The authors' code sums the last term over the heads, which is the same as `scale=3`. It
also has a separate strong view for each head; here all heads have the same one. Both
peers must have a confidence of at least `threshold`. The predicted logits are the mean
over the heads.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, stateless
from ssljax.ops import voters
from ssljax.options import Amount, Published, Share


def make(
  threshold: Annotated[Share, "minimum confidence of both peers"] = 0.0,
  scale: Annotated[Amount, "weight of the unlabelled loss", Published(3.0)] = 1.0,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def assign(forward, batch, state, clock):
    weak = forward(batch.unlabelled.views["weak"], key=clock.assign_key, gradient=False)
    q = jax.lax.stop_gradient(jax.nn.softmax(weak.heads["voters"]))  # [U, H, C]
    vote, confident = q.argmax(-1), q.max(-1) >= threshold  # [U, H]
    peers = jnp.array(voters.PEERS)
    agree = vote[:, peers[:, 0]] == vote[:, peers[:, 1]]
    weight = (agree & confident[:, peers].all(-1)).astype(jnp.float32)  # [U, H]
    label = jax.nn.one_hot(vote[:, peers[:, 0]], q.shape[-1], dtype=jnp.float32)
    target = voters.mean_target(label, weight)
    scalars = {"agreement": agree.mean(dtype=jnp.float32)}
    return Assignment(target, weight.mean(1), scalars, (label, weight)), state

  return voters.voting_method(stateless, assign, scale)

"""Three heads that teach one another (Multihead Co-training, MultiMatch)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ssljax.method import Head, Method, Needs, Term, assign_then_learn, cross_entropy

Array = jax.Array
PEERS = ((1, 2), (0, 2), (0, 1))  # the two peers of each head


def mean_target(target: Array, weight: Array) -> Array:
  """The weighted mean of the heads' targets, for reports; f32 [U, C].

  Args:
    target: f32 [U, H, C].
    weight: f32 [U, H]. If no head learns from a text, all heads get equal weights.
  """
  share = jnp.where(weight.sum(1, keepdims=True) > 0, weight, 1.0)
  return (share[..., None] * target).sum(1) / share.sum(1, keepdims=True)


def voting_method(init: Callable, assign: Callable, scale: float) -> Method:
  """A method with the loss

    sum_h CE(z_h(x), y) + scale * (1/3) sum_h mean_u w_uh CE(z_h(strong(u)), y_uh)

  `assign` returns (y f32 [U, H, C], w f32 [U, H]) as `Assignment.more`. The predicted
  logits are the mean over the heads.
  """

  def learn(forward, batch, assigned, clock):
    labelled, strong = forward(*batch.labelled_and("strong"), key=clock.learn_key)
    target, weight = assigned.more
    error = cross_entropy(strong.heads["voters"], target)  # [U, H]
    label = batch.labelled.label[:, None]  # [B, 1, C]
    return {
      "labelled": Term(cross_entropy(labelled.heads["voters"], label).sum(1)),
      "unlabelled": Term((weight * error).mean(1), 1.0, scale),
    }

  needs = Needs(
    heads={"voters": Head("classifier", count=len(PEERS))},
    predicts="voters",
    filters=True,
  )
  return assign_then_learn(
    needs,
    init,
    assign,
    learn,
    predict=lambda outputs: outputs.heads["voters"].mean(1),
  )

"""SoftMatch (Chen et al. 2023, arXiv 2301.10921): weights texts by confidence.

  weight(q) = exp(-min(max q - mu, 0)^2 / (2 sigma^2 / deviations^2))

This is a Gaussian truncated at its mean; lambda_max is 1. Each batch has a mean and an
unbiased variance of max q; mu and sigma^2 are their running averages. They start at 1/C
and 1. Each step updates them before it uses them. For max q in the weight, q is first
aligned, so that its running mean is uniform. The label is the argmax of the original q.
In a run of a few hundred steps, all three running averages stay close to their initial
values.

  loss = CE(x) + scale * mean weight * CE(p(strong(u)), argmax q)

With `moments="before"`, mu and sigma are computed from q before the alignment, as in
the paper; with "after", they are computed from the aligned q, as in published code. As
in published code, `deviations` is 2, which halves sigma.
"""

from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Rule, Sizes, consistency
from ssljax.ops import alignment
from ssljax.options import Amount, Share

Array = jax.Array


class State(NamedTuple):
  mean: Array  # f32 [], mu
  variance: Array  # f32 [], sigma^2
  model: alignment.Average  # f32 [C], mean of q


def make(
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  momentum: Annotated[Share, "momentum of the running averages"] = 0.999,
  deviations: Annotated[Amount, "divides sigma, the width of the Gaussian"] = 2.0,
  moments: Annotated[
    Literal["before", "after"], "compute mu and sigma before or after the alignment"
  ] = "before",
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def init(sizes: Sizes) -> State:
    return State(
      jnp.array(1.0 / sizes.classes, jnp.float32),
      jnp.array(1.0, jnp.float32),
      alignment.average_init(sizes.classes),
    )

  def assign(state, evidence, clock):
    q = jax.nn.softmax(evidence.logits)
    model = alignment.average_update(state.model, q.mean(0), momentum)
    aligned = alignment.aligned(q, alignment.uniform(q.shape[-1]), model.mean)
    confidence = (q if moments == "before" else aligned).max(-1)
    average = lambda old, new: momentum * old + (1.0 - momentum) * new
    several = confidence.shape[0] > 1
    variance = confidence.var(ddof=1) if several else jnp.zeros(())
    state = State(
      average(state.mean, confidence.mean()), average(state.variance, variance), model
    )
    below = jnp.minimum(aligned.max(-1) - state.mean, 0.0)
    # If all texts are equal, the variance may be 0; a text at the mean gets weight 1.
    variance = jnp.maximum(state.variance, 1e-12)
    weight = jnp.exp(-(below**2) * deviations**2 / (2.0 * variance))
    target = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    return Assignment(target, weight, {"mean_confidence": state.mean}), state

  return consistency(Rule(init, assign), scale)

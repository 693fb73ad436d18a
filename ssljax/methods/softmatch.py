"""SoftMatch (Chen et al. 2023, arXiv 2301.10921): weights texts by confidence.

  weight(q) = exp(-min(max q - mu, 0)^2 / (2 sigma^2 / deviations^2))

This is a Gaussian truncated at its mean; lambda_max is 1. Each batch has a mean and an
unbiased variance of max q; mu and sigma^2 are their running averages. Each step updates
them before it uses them. Their memory fits the length of the run (`ops.averages`); with
`time_constant=0` they start at 1/C and 1, as in published code. For max q in the
weight, q is first aligned, so that its running mean is uniform. The label is the argmax
of the original q.

  loss = CE(x) + scale * mean weight * CE(p(strong(u)), argmax q)

With `moments="before"`, mu and sigma are computed from q before the alignment, as in
the paper and its experiments on images; with "after", they are computed from the
aligned q, as in the authors' experiments on texts. As in their code, `deviations` is 2,
which halves sigma.
"""

from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Rule, Sizes, consistency
from ssljax.ops import alignment, averages
from ssljax.options import Amount, Published

Array = jax.Array


class State(NamedTuple):
  mean: Array  # f32 [], mu
  variance: Array  # f32 [], sigma^2
  model: alignment.Average  # f32 [C], mean of q


def make(
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  momentum: averages.Momentum = 0.999,
  time_constant: averages.TimeConstant = averages.TIME_CONSTANT,
  deviations: Annotated[Amount, "divides sigma, the width of the Gaussian"] = 2.0,
  moments: Annotated[
    Literal["before", "after"],
    "compute mu and sigma before or after the alignment",
    Published("after"),
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
    share = averages.share_of_newest(clock, momentum, time_constant)
    model = alignment.average_update(state.model, q.mean(0), share)
    aligned = alignment.aligned(q, alignment.uniform(q.shape[-1]), model.mean)
    confidence = (q if moments == "before" else aligned).max(-1)
    several = confidence.shape[0] > 1
    variance = confidence.var(ddof=1) if several else jnp.zeros(())
    state = State(
      averages.updated(state.mean, confidence.mean(), share),
      averages.updated(state.variance, variance, share),
      model,
    )
    below = jnp.minimum(aligned.max(-1) - state.mean, 0.0)
    # If all texts are equal, the variance may be 0; a text at the mean gets weight 1.
    variance = jnp.maximum(state.variance, 1e-12)
    weight = jnp.exp(-(below**2) * deviations**2 / (2.0 * variance))
    target = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    return Assignment(target, weight, {"mean_confidence": state.mean}), state

  return consistency(Rule(init, assign), scale, Needs(filters=True))

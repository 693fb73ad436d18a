"""FreeMatch (Wang et al. 2023, arXiv 2205.07246): the threshold follows the model.

There are three running averages over the weak predictions q: tau averages max q, p~
averages q, and h~ averages the histogram of argmax q (equations 5 to 8 and 11). Each
step updates them before it uses them. Their memory fits the length of the run
(`ops.averages`); with `time_constant=0` they start at 1/C, as in the paper.

  T(c) = tau * p~(c) / max p~
  loss = CE(x) + scale * mean 1[max q >= T(argmax q)] CE(p(strong(u)), argmax q)
       + fairness * sum_c SumNorm(p~ / h~)_c log SumNorm(p_ / h_)_c

The last term is self-adaptive fairness (equations 9 to 12). p_ and h_ are the mean and
the histogram of the strong predictions for the texts above the threshold; if there are
no such texts, the term is 0. SumNorm scales its argument to sum 1; classes that are
missing from the histogram get 0. The authors use `fairness` 0.001 for texts, and 0.01
to 0.05 for images.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Rule, Term, consistency
from ssljax.ops import averages, thresholds
from ssljax.options import Amount


def make(
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  fairness: Annotated[Amount, "weight of the self-adaptive fairness term"] = 0.001,
  momentum: averages.Momentum = 0.999,
  time_constant: averages.TimeConstant = averages.TIME_CONSTANT,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def assign(state, evidence, clock):
    q = jax.nn.softmax(evidence.logits)
    share = averages.share_of_newest(clock, momentum, time_constant)
    state = thresholds.adaptive_update(state, q, share)
    cutoff = thresholds.adaptive_threshold(state)
    label = q.argmax(-1)
    weight = (q.max(-1) >= cutoff[label]).astype(jnp.float32)
    target = jax.nn.one_hot(label, q.shape[-1], dtype=jnp.float32)
    return Assignment(target, weight, {"threshold": cutoff.mean()}), state

  def extra(state, assigned, strong):
    p = jax.nn.softmax(strong.logits)
    count = jnp.maximum(assigned.weight.sum(), 1.0)
    mean = (assigned.weight[:, None] * p).sum(0) / count
    predicted = jax.nn.one_hot(p.argmax(-1), p.shape[-1], dtype=jnp.float32)
    histogram = (assigned.weight[:, None] * predicted).sum(0) / count
    target = sum_norm(state.probability, state.histogram)
    term = (target * jnp.log(sum_norm(mean, histogram) + 1e-12)).sum()
    any_used = assigned.weight.sum() > 0
    return {"fairness": Term(jnp.where(any_used, term, 0.0), 1.0, fairness)}

  return consistency(
    Rule(thresholds.adaptive_init, assign, extra), scale, Needs(filters=True)
  )


def sum_norm(probability, histogram):
  """Normalise(p / h), f32 [C]; 0 where h is 0."""
  empty = histogram <= 0
  ratio = jnp.where(empty, 0.0, probability / jnp.where(empty, 1.0, histogram))
  return ratio / jnp.maximum(ratio.sum(), 1e-12)

"""FlexMatch (Zhang et al. 2021, arXiv 2110.08263): each class has its own threshold.

FixMatch, but the threshold of class c depends on how well c has been learned:

  T(c) = threshold * beta(c) / (2 - beta(c))
  beta(c) = sigma(c) / max(max sigma, unused)

These are equations 5, 6, 11 and 12. sigma(c) is the number of unlabelled texts whose
last confident prediction (above `threshold`) was c. During the warm-up, `unused` is the
number of texts that haven't had a confident prediction; afterwards, it is 0. (The
paper's warm-up has no end. In a run that doesn't visit all texts, its thresholds stay
close to 0.) The mask uses beta from before the batch; afterwards, the batch is counted.
T(c) is the paper's convex mapping.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Rule, consistency
from ssljax.ops import thresholds
from ssljax.options import Amount, Share


def make(
  threshold: Annotated[Share, "threshold of the class that is learned best"] = 0.95,
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  warmup: thresholds.Warmup = True,
  warmup_ends: thresholds.WarmupEnds = thresholds.WARMUP_ENDS,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def assign(state, evidence, clock):
    q = jax.nn.softmax(evidence.logits)
    label = q.argmax(-1)
    warming = thresholds.is_warming(clock, warmup, warmup_ends)
    cutoff = thresholds.learned_threshold(state, threshold, warming)  # [C]
    weight = (q.max(-1) >= cutoff[label]).astype(jnp.float32)
    target = jax.nn.one_hot(label, q.shape[-1], dtype=jnp.float32)
    use = jnp.ones(label.shape, bool)
    state = thresholds.learned_update(state, evidence.index, q, threshold, use)
    scalars = {"threshold": cutoff.mean()}
    return Assignment(target, weight, scalars), state

  return consistency(Rule(thresholds.learned_init, assign), scale, Needs(filters=True))

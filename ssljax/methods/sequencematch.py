"""SequenceMatch (Nguyen 2024, arXiv 2310.15787): each view teaches the stronger ones.

Uses FlexMatch's labels and mask m (`ops.thresholds`), and adds three divergences
between views. The target of each is the prediction on the weaker view, sharpened (S)
and without gradient:

  loss = CE(x) + scale * mean m CE(p_s, argmax p_w)
       + scale * mean m_w [KL(S(p_w) || p_m) + KL(S(p_w) || p_s)]
       + scale * mean m_m KL(S(p_m) || p_s)

m_v = 1[max p_v >= threshold] is the mask of the weaker view of a pair, as in the
author's own code: its threshold is the same for all classes. With `masks="weak"`, all
divergences use m, as in the author's code for a library. (Instead of sharpening the
probabilities, that code applies a softmax to them.) `--config.medium` sets the medium
view.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from ssljax.method import (
  Assignment,
  Method,
  Needs,
  Term,
  assign_then_learn,
  cross_entropy,
)
from ssljax.ops import thresholds
from ssljax.options import Absent, Amount, Share


def make(
  threshold: Annotated[
    Share, "FlexMatch's threshold, for the class learned best"
  ] = 0.95,
  temperature: Annotated[Amount, "T, sharpens the targets of the divergences"] = 0.5,
  scale: Annotated[Amount, "weight of all unlabelled losses"] = 1.0,
  warmup: thresholds.Warmup = True,
  warmup_ends: thresholds.WarmupEnds = thresholds.WARMUP_ENDS,
  masks: Annotated[
    Literal["pairs", "weak"],
    "masks of the divergences: of the weaker view of each pair, or FlexMatch's",
    Absent("weak"),
  ] = "pairs",
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def assign(forward, batch, state, clock):
    weak = forward(batch.unlabelled.views["weak"], key=clock.assign_key, gradient=False)
    q = jax.lax.stop_gradient(jax.nn.softmax(weak.logits))
    label = q.argmax(-1)
    warming = thresholds.is_warming(clock, warmup, warmup_ends)
    cutoff = thresholds.learned_threshold(state, threshold, warming)
    weight = (q.max(-1) >= cutoff[label]).astype(jnp.float32)
    target = jax.nn.one_hot(label, q.shape[-1], dtype=jnp.float32)
    use, index = jnp.ones(label.shape, bool), batch.unlabelled.index
    state = thresholds.learned_update(state, index, q, threshold, use)
    logits = jax.lax.stop_gradient(weak.logits)
    return Assignment(target, weight, {"threshold": cutoff.mean()}, logits), state

  def divergence(weaker, stronger):
    """KL(S(p) || p'), f32 [n], from logits; the weaker view gets no gradient."""
    target = jax.nn.softmax(jax.lax.stop_gradient(weaker) / max(temperature, 1e-6))
    entropy = cross_entropy(jnp.log(jnp.maximum(target, 1e-30)), target)
    return cross_entropy(stronger, target) - entropy

  def sure(logits):
    """1[max p >= threshold], f32 [n]."""
    p = jax.lax.stop_gradient(jax.nn.softmax(logits))
    return (p.max(-1) >= threshold).astype(jnp.float32)

  def learn(forward, batch, assigned, clock):
    labelled, medium, strong = forward(
      *batch.labelled_and("medium", "strong"), key=clock.learn_key
    )
    weak_logits = assigned.more
    weak_medium = divergence(weak_logits, medium.logits)
    medium_strong = divergence(medium.logits, strong.logits)
    weak_strong = divergence(weak_logits, strong.logits)
    if masks == "weak":
      divergences = Term(
        weak_medium + medium_strong + weak_strong, assigned.weight, scale
      )
    else:
      divergences = Term(
        sure(weak_logits) * (weak_medium + weak_strong)
        + sure(medium.logits) * medium_strong,
        scale=scale,
      )
    return {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": assigned.term(strong.logits, scale),
      "divergence": divergences,
    }

  needs = Needs(
    views=("weak", "medium", "strong"),
    votes=("weak", "medium"),
    soft=True,
    filters=True,
  )
  return assign_then_learn(needs, thresholds.learned_init, assign, learn)

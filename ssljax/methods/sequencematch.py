"""SequenceMatch (Nguyen 2024, arXiv 2310.15787): weak, medium and strong in a chain.

FlexMatch's labels and mask m (`ops.thresholds`), and three divergences between the
views, each towards the weaker one, sharpened (S) and without gradient:

  loss = CE(x) + scale * mean m CE(p_s, argmax p_w)
       + scale * mean m [KL(S(p_w) || p_m) + KL(S(p_m) || p_s) + KL(S(p_w) || p_s)]

The third view is `--config.medium`. All divergences have the weak view's m, as in the
author's port to a library (which takes a softmax of the probabilities in place of
sharpening them); in the author's own code each asks the weaker view of its pair.
"""

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Term, cross_entropy
from ssljax.ops import thresholds
from ssljax.options import Amount, Share


def make(
  threshold: Share = 0.95,
  temperature: Amount = 0.5,
  scale: Amount = 1.0,
  warmup: bool = True,
) -> Method:
  """Args: `threshold`, `warmup` as FlexMatch's; `temperature` T of the targets."""

  def assign(forward, batch, state, clock):
    key = jax.random.fold_in(clock.key, 0)
    weak = forward(batch.unlabelled.views["weak"], key=key, gradient=False)
    q = jax.lax.stop_gradient(jax.nn.softmax(weak.logits))
    label = q.argmax(-1)
    level = thresholds.learned_threshold(state, threshold, warmup)
    weight = (q.max(-1) >= level[label]).astype(jnp.float32)
    target = jax.nn.one_hot(label, q.shape[-1], dtype=jnp.float32)
    every, index = jnp.ones(label.shape, bool), batch.unlabelled.index
    state = thresholds.learned_update(state, index, q, threshold, every)
    more = jax.lax.stop_gradient(weak.logits)
    return Assignment(target, weight, {"threshold": level.mean()}, more), state

  def towards(weaker, stronger):
    """KL(S(p) || p'), f32 [n], of logits; no gradient to the weaker."""
    target = jax.nn.softmax(jax.lax.stop_gradient(weaker) / max(temperature, 1e-6))
    entropy = cross_entropy(jnp.log(jnp.maximum(target, 1e-30)), target)
    return cross_entropy(stronger, target) - entropy

  def learn(forward, batch, assigned, clock):
    labelled, medium, strong = forward(
      batch.labelled.views["weak"],
      batch.unlabelled.views["medium"],
      batch.unlabelled.views["strong"],
      key=jax.random.fold_in(clock.key, 1),
    )
    chain = ((assigned.more, medium), (medium.logits, strong), (assigned.more, strong))
    apart = sum(towards(weaker, stronger.logits) for weaker, stronger in chain)
    return {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": Term(
        cross_entropy(strong.logits, assigned.target), assigned.weight, scale
      ),
      "divergence": Term(apart, assigned.weight, scale),
    }

  def loss(forward, batch, state, clock):
    assigned, state = assign(forward, batch, state, clock)
    return learn(forward, batch, assigned, clock), state, assigned

  needs = Needs(views=("weak", "medium", "strong"), votes=("weak", "medium"), soft=True)
  return Method(needs, thresholds.learned_init, loss, assign=assign, learn=learn)

"""DeFixMatch (Schmutz et al. 2023, arXiv 2203.07512): FixMatch without its bias.

Labelled texts lose what FixMatch's term would add if they were unlabelled (a control
variate: its mean is that of the unlabelled term):

  m(u) = 1[max p(weak(u)) >= threshold] CE(p(strong(u)), argmax p(weak(u)))
  loss = (mean CE(weak(x)) + mean CE(strong(x))) / 2 + scale * (mean m(u) - mean m(x))

so labelled texts need a strong view, too. Both kinds of text are voted on in one pass
without gradient, since a control that reads otherwise has another mean. The last term
may be negative.
"""

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Term, cross_entropy
from ssljax.options import Amount, Share


def make(threshold: Share = 0.95, scale: Amount = 0.5) -> Method:
  """Args: `threshold` on max p, `scale` of the unlabelled term and its control."""

  def assign(forward, batch, state, clock):
    both = forward(
      batch.unlabelled.views["weak"],
      batch.labelled.views["weak"],
      key=jax.random.fold_in(clock.key, 0),
      gradient=False,
    )
    unlabelled, control = (vote(one.logits) for one in both)
    return Assignment(*unlabelled, more=control), state

  def vote(logits):
    """The label, one-hot, and whether it is sure."""
    q = jax.nn.softmax(logits)
    target = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    return target, (q.max(-1) >= threshold).astype(jnp.float32)

  def learn(forward, batch, assigned, clock):
    weak, strong, unlabelled = forward(
      batch.labelled.views["weak"],
      batch.labelled.views["strong"],
      batch.unlabelled.views["strong"],
      key=jax.random.fold_in(clock.key, 1),
    )
    control, sure = assigned.more
    both = [cross_entropy(one.logits, batch.labelled.label) for one in (weak, strong)]
    return {
      "labelled": Term(sum(both) / 2),
      "unlabelled": Term(
        cross_entropy(unlabelled.logits, assigned.target), assigned.weight, scale
      ),
      "control": Term(cross_entropy(strong.logits, control), sure, -scale),
    }

  def loss(forward, batch, state, clock):
    assigned, state = assign(forward, batch, state, clock)
    return learn(forward, batch, assigned, clock), state, assigned

  return Method(
    Needs(labelled_views=("weak", "strong")),
    lambda sizes: (),
    loss,
    assign=assign,
    learn=learn,
  )

"""DASO (Oh et al. 2022, arXiv 2106.05682): votes blended with likeness to prototypes.

Prototypes are the mean features of each class over its newest labelled texts. With
p = p(y | weak(u)), k its argmax, s = softmax(cos(feature of weak(u), prototypes) / T):

  the method's votes are (1 - v_k) p + v_k s,   v_c = (m_c / max m)^(1 / T_dist)

(equations 3 to 5), m the running frequency of the votes: the more a class is voted for,
the more its votes are checked by likeness. And the strong view is drawn to the same s:

  loss = the method's + scale * mean CE(softmax(cos(strong(u), prototypes) / T), s)

Both begin after the warm-up, and when each class has a prototype: with a class that has
no labelled text they never do. A prototype is an exponential mean over some `newest`
texts of its class (the paper's is the mean of a queue of an average model's features).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Method, Term, cross_entropy
from ssljax.ops import alignment, bank
from ssljax.options import Amount, Count, Share, Temperature
from ssljax.wrappers import recording_forward

Array = jax.Array


class State(NamedTuple):
  inner: Any  # the method's
  feature: Array  # f32 [C, D], sums
  count: Array  # f32 [C], what they are sums of
  vote: Array  # f32 [C], m


def make(
  method: Method,
  scale: Amount = 1.0,
  temperature: Temperature = 0.05,
  distribution: Temperature = 1.5,
  warmup: Share = 0.05,
  newest: Count = 256,
  momentum: Share = 0.99,
) -> Method:
  """Args: `temperature` T, `distribution` T_dist, `momentum` of m."""
  recording_forward.refuse_several(method.needs)
  recording_forward.refuse_control(method.needs)
  recording_forward.refuse_votes(method.needs)

  def init(sizes):
    return State(
      method.init(sizes),
      jnp.zeros((sizes.classes, sizes.width), jnp.float32),
      jnp.zeros(sizes.classes, jnp.float32),
      alignment.uniform(sizes.classes),
    )

  def likeness(features, state):
    """Logits f32 [n, C]."""
    return bank.unit(features) @ bank.unit(state.feature).T / temperature

  def loss(forward, batch, state, clock):
    # Not before each class has a prototype.
    begun = (clock.progress >= warmup) & (state.count > 0).all()
    classes, votes = state.count.shape[0], []

    def change(said, view, learns):
      if view is not batch.unlabelled.views["weak"] or learns:
        return said
      p = jax.lax.stop_gradient(jax.nn.softmax(said.logits[:, :classes]))
      s = jax.nn.softmax(jax.lax.stop_gradient(likeness(said.features, state)))
      v = (state.vote / state.vote.max()) ** (1.0 / distribution)
      v = v[p.argmax(-1)][:, None]
      blend = jnp.where(begun, (1.0 - v) * p + v * s, p)
      votes.append((blend, s))
      return recording_forward.told(said, blend)

    heard = recording_forward.Listening(forward, change)
    terms, inner, assigned = method.loss(heard, batch, state.inner, clock)
    blend, s = votes[0]
    keys = [jax.random.fold_in(clock.key, 200 + k) for k in range(2)]
    strong = heard.said(batch.unlabelled.views["strong"], True, keys[0])
    near = cross_entropy(likeness(strong.features, state), s)
    terms = {**terms, "likeness": Term(near, begun.astype(jnp.float32), scale)}

    labelled = heard.said(batch.labelled.views["weak"], True, keys[1])
    label = batch.labelled.label[:, :classes]
    fades = (1.0 - 1.0 / newest) ** label.sum(0)
    own = label.T @ jax.lax.stop_gradient(labelled.features)
    hot = jax.nn.one_hot(blend.argmax(-1), classes, dtype=jnp.float32)
    return (
      terms,
      State(
        inner,
        fades[:, None] * state.feature + own,
        fades * state.count + label.sum(0),
        momentum * state.vote + (1.0 - momentum) * hot.mean(0),
      ),
      assigned,
    )

  return method._replace(init=init, loss=loss, assign=None, learn=None)

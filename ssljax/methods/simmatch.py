"""SimMatch (Zheng et al. 2022, arXiv 2203.06915): alike in class, alike to neighbours.

A bank holds the embedding f (a projection of unit length) and the label of each
labelled text. p' is the weak prediction aligned to a uniform mean over the last
`window` batches, s = softmax(f(weak(u)) . bank / T) the weak similarities. They correct
each other:

  s' ~ s_k p'_{y_k}, rows to 1
  q_c = smoothing p'_c + (1 - smoothing) sum_{k: y_k = c} s_k
  loss = CE(x) + scale * mean 1[max q >= threshold] CE(p(strong(u)), q)
       + instances * mean CE(softmax(f(strong(u)) . bank / T), s')

The neighbours speak from the second epoch on, as in the authors' code: until then q is
p' and the last term 0. A text that is visited moves its row to `momentum` bank + (1 -
`momentum`) f, at length 1 (the paper's small form, without a teacher); rows that were
not visited yet have no part in any of it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Head, Method, Needs, Term, cross_entropy
from ssljax.ops import alignment
from ssljax.options import Amount, Count, Share, Temperature

Array = jax.Array
NEVER = -1e9  # the similarity of a row that was not visited


class State(NamedTuple):
  feature: Array  # f32 [labelled, W]
  label: Array  # f32 [labelled, C], one-hot; zeros before the first visit
  window: alignment.Window


def make(
  threshold: Share = 0.95,
  temperature: Temperature = 0.1,
  scale: Amount = 1.0,
  instances: Amount = 1.0,
  smoothing: Share = 0.9,
  momentum: Share = 0.7,
  width: Count = 128,
  window: Count = 32,
) -> Method:
  """Args: as above; `width` of f."""

  def init(sizes):
    return State(
      jnp.zeros((sizes.labelled, width), jnp.float32),
      jnp.zeros((sizes.labelled, sizes.classes), jnp.float32),
      alignment.window_init(window, sizes.classes),
    )

  def near(state, feature):
    """Similarities f32 [U, labelled]."""
    known = state.label.sum(-1) > 0
    return jnp.where(known, feature @ state.feature.T / temperature, NEVER)

  def guess(state, weak, later):
    p = jax.nn.softmax(weak.logits)
    moved = alignment.window_update(state.window, p.mean(0))
    even = alignment.aligned(
      p, alignment.uniform(p.shape[-1]), alignment.window_mean(moved)
    )
    s = jax.nn.softmax(near(state, weak.heads["projection"]))
    unfolded = s * (even @ state.label.T)
    unfolded = unfolded / jnp.maximum(unfolded.sum(-1, keepdims=True), 1e-12)
    q = smoothing * even + (1.0 - smoothing) * s @ state.label
    return jnp.where(later, q, even), unfolded, moved

  def visited(state, labelled, batch):
    index, label = batch.labelled.index, batch.labelled.label
    # A batch larger than the labelled set repeats rows: they move once, by the mean.
    same = (index[:, None] == index).astype(jnp.float32)
    same = same / same.sum(1, keepdims=True)
    feature = jnp.matmul(same, labelled.heads["projection"], precision="highest")
    first = state.label[index].sum(-1, keepdims=True) == 0
    old = momentum * state.feature[index]
    row = jnp.where(first, feature, old + (1.0 - momentum) * feature)
    row = row / jnp.maximum(jnp.linalg.norm(row, axis=-1, keepdims=True), 1e-12)
    return state.feature.at[index].set(row), state.label.at[index].set(label)

  def loss(forward, batch, state, clock):
    weak_key, key = jax.random.split(clock.key)
    weak = forward(batch.unlabelled.views["weak"], key=weak_key, gradient=False)
    labelled, strong = forward(
      batch.labelled.views["weak"], batch.unlabelled.views["strong"], key=key
    )
    later = (clock.epoch > 0) & jnp.any(state.label > 0)
    q, unfolded, moved = jax.lax.stop_gradient(guess(state, weak, later))
    weight = (q.max(-1) >= threshold).astype(jnp.float32)
    alike = cross_entropy(near(state, strong.heads["projection"]), unfolded)
    terms = {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": Term(cross_entropy(strong.logits, q), weight, scale),
      "instances": Term(alike, 1.0, instances * later),
    }
    seen = jax.lax.stop_gradient(visited(state, labelled, batch))
    return terms, State(*seen, moved), Assignment(q, weight)

  needs = Needs(heads={"projection": Head("projection", width=width)}, soft=True)
  return Method(needs, init, loss)

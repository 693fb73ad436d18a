"""SimMatch (Zheng et al. 2022, arXiv 2203.06915): two views agree in two ways.

The weak and strong views must agree in their class predictions and in their
similarities to labelled texts. A bank holds the embedding f (a unit-length projection)
and the label of each labelled text. p' is the weak prediction, aligned so that its mean
over the last `window` batches is uniform. s = softmax(f(weak(u)) . bank / T) are the
weak view's similarities to the labelled texts. p' and s correct each other:

  s' ~ s_k p'_{y_k}, rows sum to 1
  q_c = smoothing p'_c + (1 - smoothing) sum_{k: y_k = c} s_k
  loss = CE(x) + scale * mean 1[max q >= threshold] CE(p(strong(u)), q)
       + instances * mean CE(softmax(f(strong(u)) . bank / T), s')

The bank is used from the second epoch on, or after the share `start` of the run, if
that is earlier; before, q is p' and the last term is 0. (In the authors' code, an epoch
is a pass over the unlabelled texts.) Each visit of a labelled text updates its row in
the bank to `momentum` * row + (1 - `momentum`) f, normalised to unit length. (This is
the paper's small variant, which has no teacher.) Rows that have not been visited yet
are ignored.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Head, Method, Needs, Term, cross_entropy
from ssljax.ops import alignment, averages
from ssljax.options import Amount, Count, Published, Share, Temperature

Array = jax.Array
NOT_VISITED = -1e9  # similarity to a row that has not been visited


class State(NamedTuple):
  feature: Array  # f32 [labelled, W]
  label: Array  # f32 [labelled, C], one-hot; zeros before the first visit
  window: alignment.Window


def make(
  threshold: Annotated[Share, "minimum confidence of a pseudo-label"] = 0.95,
  temperature: Annotated[Temperature, "T for similarities of embeddings"] = 0.1,
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  instances: Annotated[Amount, "weight of the loss of the similarities"] = 1.0,
  smoothing: Annotated[
    Share, "weight of the prediction in a label; similarities get the rest"
  ] = 0.9,
  momentum: Annotated[Share, "momentum of the bank's embeddings"] = 0.7,
  width: Annotated[Count, "size of the embeddings"] = 128,
  window: Annotated[
    Count, "number of batches whose mean is aligned", Published(256)
  ] = 32,
  start: averages.Start = averages.START,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def init(sizes):
    return State(
      jnp.zeros((sizes.labelled, width), jnp.float32),
      jnp.zeros((sizes.labelled, sizes.classes), jnp.float32),
      alignment.window_init(window, sizes.classes),
    )

  def similarity(state, feature):
    """Logits f32 [U, labelled]."""
    visited = state.label.sum(-1) > 0
    return jnp.where(visited, feature @ state.feature.T / temperature, NOT_VISITED)

  def guess(state, weak, use_bank):
    """Returns (q f32 [U, C], s' f32 [U, labelled], updated window)."""
    p = jax.nn.softmax(weak.logits)
    means = alignment.window_update(state.window, p.mean(0))
    aligned = alignment.aligned(
      p, alignment.uniform(p.shape[-1]), alignment.window_mean(means)
    )
    s = jax.nn.softmax(similarity(state, weak.heads["projection"]))
    calibrated = s * (aligned @ state.label.T)
    total = calibrated.sum(-1, keepdims=True)
    calibrated = calibrated / jnp.maximum(total, 1e-12)
    q = smoothing * aligned + (1.0 - smoothing) * s @ state.label
    return jnp.where(use_bank, q, aligned), calibrated, means

  def update_bank(state, labelled, batch):
    index, label = batch.labelled.index, batch.labelled.label
    # A batch larger than the labelled set repeats rows; all repeats get the mean.
    same = (index[:, None] == index).astype(jnp.float32)
    same = same / same.sum(1, keepdims=True)
    feature = jnp.matmul(same, labelled.heads["projection"], precision="highest")
    first_visit = state.label[index].sum(-1, keepdims=True) == 0
    old = momentum * state.feature[index]
    row = jnp.where(first_visit, feature, old + (1.0 - momentum) * feature)
    row = row / jnp.maximum(jnp.linalg.norm(row, axis=-1, keepdims=True), 1e-12)
    return state.feature.at[index].set(row), state.label.at[index].set(label)

  def loss(forward, batch, state, clock):
    weak_key, key = jax.random.split(clock.key)
    weak = forward(batch.unlabelled.views["weak"], key=weak_key, gradient=False)
    labelled, strong = forward(*batch.labelled_and("strong"), key=key)
    use_bank = averages.has_started(clock, start) & jnp.any(state.label > 0)
    q, calibrated, means = jax.lax.stop_gradient(guess(state, weak, use_bank))
    weight = (q.max(-1) >= threshold).astype(jnp.float32)
    error = cross_entropy(similarity(state, strong.heads["projection"]), calibrated)
    terms = {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": Term(cross_entropy(strong.logits, q), weight, scale),
      "instances": Term(error, 1.0, instances * use_bank),
    }
    bank = jax.lax.stop_gradient(update_bank(state, labelled, batch))
    return terms, State(*bank, means), Assignment(q, weight)

  needs = Needs(
    heads={"projection": Head("projection", width=width)}, soft=True, filters=True
  )
  return Method(needs, init, loss)

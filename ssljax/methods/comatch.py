"""CoMatch (Li et al. 2021, arXiv 2011.11183): labels and embeddings teach each other.

f is the unit-length output of a projection head. p' is the weak prediction, aligned so
that its mean over the last `window` batches is uniform. A queue holds f_k and p_k of
the newest texts; p_k is p' for unlabelled texts and y for labelled texts. Once the
queue is full, or after the share `start` of the run, if that is earlier, it smooths the
label q of each text with the labels of its neighbours:

  q = smoothing p' + (1 - smoothing) sum_k a_k p_k,  a = softmax(f . f_k / T)
  loss = CE(x) + scale * mean 1[max q >= threshold] CE(p(strong(u)), q) + contrast * L_c

L_c pulls the strong views of texts with similar labels together:

  L_c = -mean_i sum_j Q_ij log softmax_j(f(strong(u_i)) . f(strong'(u_j)) / T)

Q_ij is q_i . q_j, except that the diagonal is 1 and values below `agreement` become 0.
Each row of Q is then scaled to sum to 1.

The authors' queue for CIFAR-10 has 5 batches, so it is full after 5 steps. Published
code for text has 128 batches, and doesn't use the queue in the first epoch.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.batch import SecondCandidate
from ssljax.method import Assignment, Head, Method, Needs, Term, cross_entropy
from ssljax.ops import alignment, averages, bank
from ssljax.options import Absent, Amount, Count, Published, Share, Temperature

SECOND_STRONG = SecondCandidate("strong")
EMPTY = -1e9  # similarity to a row of the queue that isn't filled


class State(NamedTuple):
  queue: bank.Queue
  window: alignment.Window


def make(
  threshold: Annotated[Share, "minimum confidence of a pseudo-label"] = 0.95,
  temperature: Annotated[Temperature, "T for similarities of embeddings"] = 0.2,
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  contrast: Annotated[Amount, "weight of the contrastive loss"] = 1.0,
  smoothing: Annotated[
    Share, "weight of the prediction in a label; neighbours get the rest"
  ] = 0.9,
  agreement: Annotated[
    Share, "two texts attract each other if their labels are at least this similar"
  ] = 0.8,
  width: Annotated[Count, "size of the embeddings"] = 64,
  window: Annotated[Count, "number of batches whose mean is aligned"] = 32,
  batches: Annotated[
    Count, "size of the queue in batches; at most all texts", Published(5)
  ] = 128,
  start: Annotated[
    Share,
    "neighbours smooth labels once the queue is full, and no later than after this "
    "share of the run",
    Absent(1.0),
    Published(1.0),
  ] = averages.START,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def init(sizes):
    rows = batches * (sizes.batch + sizes.unlabelled_batch)
    rows = min(rows, sizes.labelled + sizes.unlabelled)
    return State(
      bank.queue_init(rows, width, sizes.classes),
      alignment.window_init(window, sizes.classes),
    )

  def guess(state, weak, clock):
    """Returns (q, p', updated window); q and p' are f32 [U, C]."""
    p = jax.nn.softmax(weak.logits)
    means = alignment.window_update(state.window, p.mean(0))
    mean = alignment.window_mean(means)
    aligned = alignment.aligned(p, alignment.uniform(p.shape[-1]), mean)
    filled = bank.queue_filled(state.queue)
    due = filled.all()
    similarity = weak.heads["projection"] @ state.queue.feature.T / temperature
    if start < 1:
      similarity = jnp.where(filled, similarity, EMPTY)
      due |= clock.step >= averages.steps_before(clock, start)
    similarity = jax.nn.softmax(similarity)
    q = smoothing * aligned + (1.0 - smoothing) * similarity @ state.queue.probability
    q = jnp.where(due, q, aligned)
    return q, aligned, means

  def loss(forward, batch, state, clock):
    weak_key, key = jax.random.split(clock.key)
    weak = forward(batch.unlabelled.views["weak"], key=weak_key, gradient=False)
    labelled, strong, second_strong = forward(
      *batch.labelled_and("strong", SECOND_STRONG), key=key
    )
    q, aligned, means = jax.lax.stop_gradient(guess(state, weak, clock))
    weight = (q.max(-1) >= threshold).astype(jnp.float32)
    graph = q @ q.T
    graph = jnp.where(jnp.eye(q.shape[0], dtype=bool), 1.0, graph)
    graph = jnp.where(graph >= agreement, graph, 0.0)
    graph = graph / graph.sum(1, keepdims=True)
    similarity = (
      strong.heads["projection"] @ second_strong.heads["projection"].T / temperature
    )
    terms = {
      "labelled": Term(cross_entropy(labelled.logits, batch.labelled.label)),
      "unlabelled": Term(cross_entropy(strong.logits, q), weight, scale),
      "contrast": Term(cross_entropy(similarity, graph), 1.0, contrast),
    }
    queue = state.queue
    for outputs, probability, index in (
      (weak, aligned, batch.unlabelled.index),
      (labelled, batch.labelled.label, batch.labelled.index),
    ):
      order = jnp.argsort(index)  # the order of the batch must not matter
      feature = jax.lax.stop_gradient(outputs.heads["projection"])
      queue = bank.queue_push(queue, feature[order], probability[order])
    return terms, State(queue, means), Assignment(q, weight)

  needs = Needs(
    views=("weak", "strong", SECOND_STRONG),
    heads={"projection": Head("projection", width=width)},
    soft=True,
    filters=True,
    least=2,  # with a single text L_c is 0
  )
  return Method(needs, init, loss)

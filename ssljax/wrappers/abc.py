"""ABC (Lee et al. 2021, arXiv 2110.10368): adds a balanced classifier to the method.

An extra linear head h on the same features is trained on a class-balanced sample. n_c
is the number of labelled texts of class c, and n_min is the smallest of these numbers.
A labelled text of class y is in the sample with probability n_min / n_y. For an
unlabelled text, q is the prediction of h on the weak view, and c is argmax q. If max q
>= `threshold`, the text is in the sample with probability 1 - t (1 - n_min / n_c),
where t is the progress of the run (equations 2 to 4):

  loss = the method's loss
       + scale * (mean 1[in] CE(h(x), y) + mean 1[in] CE(h(strong(u)), q))

As in the authors' code, the target is q itself, not its argmax. Their code uses two
strong views; we use one. The extra head makes the final predictions.
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Head, Method, Term, cross_entropy
from ssljax.ops import alignment, draws
from ssljax.options import Amount, Share
from ssljax.wrappers.recording_forward import LABELLED, STRONG, VOTES, RecordingForward
from ssljax.wrappers.requirements import refuse

# What the wrapper does if all classes have the same number of labelled texts.
EVEN = "has no effect on the class balance"
# Folded into the step's key; no other wrapper uses these numbers.
LABELLED_PASS, WEAK_PASS, STRONG_PASS = 100, 101, 102
LABELLED_SAMPLE, UNLABELLED_SAMPLE = 103, 104


class State(NamedTuple):
  inner: Any  # the method's state
  share: jax.Array  # f32 [C], n_min / n_c


def make(
  method: Method,
  scale: Annotated[Amount, "weight of the losses of the balanced classifier"] = 1.0,
  threshold: Annotated[Share, "minimum confidence of unlabelled texts"] = 0.95,
) -> Method:
  """Wraps the method; see the module docstring for the equations."""
  refuse(method.needs, "virtual_classes")

  def init(sizes):
    counts = alignment.labelled_counts(sizes)
    return State(method.init(sizes), counts.min() / counts)

  def loss(forward, batch, state, clock):
    key = lambda number: jax.random.fold_in(clock.key, number)
    recorder = RecordingForward(forward, batch)
    terms, inner, assigned = method.loss(recorder, batch, state.inner, clock)
    labelled = recorder.outputs(LABELLED, key(LABELLED_PASS))
    weak = recorder.outputs(VOTES, key(WEAK_PASS))
    strong = recorder.outputs(STRONG, key(STRONG_PASS))
    label = batch.labelled.label
    labelled_sample = in_sample(
      key(LABELLED_SAMPLE), batch.labelled.index, label @ state.share
    )
    q = jax.lax.stop_gradient(jax.nn.softmax(weak.heads["balanced"]))
    predicted = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    probability = 1.0 - clock.progress * (1.0 - predicted @ state.share)
    unlabelled_sample = (q.max(-1) >= threshold) * in_sample(
      key(UNLABELLED_SAMPLE), batch.unlabelled.index, probability
    )
    labelled_error = cross_entropy(labelled.heads["balanced"], label)
    unlabelled_error = cross_entropy(strong.heads["balanced"], q)
    terms = terms | {
      "balanced": Term(labelled_error, labelled_sample, scale),
      "balanced_unlabelled": Term(unlabelled_error, unlabelled_sample, scale),
    }
    return terms, State(inner, state.share), assigned

  needs = method.needs._replace(
    heads={**method.needs.heads, "balanced": Head("linear")}, predicts="balanced"
  )
  return Method(needs, init, loss, predict=lambda outputs: outputs.heads["balanced"])


def in_sample(key, index, probability):
  """f32 [n]: each row is 1 with its `probability`, otherwise 0."""
  sample = draws.by_row(key, index, jax.random.uniform) < probability
  return sample.astype(jnp.float32)

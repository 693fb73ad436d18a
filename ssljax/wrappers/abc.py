"""ABC (Lee et al. 2021, arXiv 2110.10368): a balanced classifier next to the method's.

An extra linear head on the same features is trained on a class-balanced sample: a
labelled text of class y is in the sample with probability n_min / n_y; an unlabelled
text for which the head predicts q on the weak view, with max q >= `threshold`, is in it
with probability 1 - t (1 - n_min / n_c), c = argmax q, t the progress of the run
(equations 2 to 4):

  loss = the method's
       + scale * (mean 1[in] CE(h(x), y) + mean 1[in] CE(h(strong(u)), q))

The target is q itself, not its argmax, as in the authors' code, which uses two strong
views where we use one. The extra head predicts. n counts labelled texts.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Head, Method, Term, cross_entropy
from ssljax.ops import alignment, draws
from ssljax.options import Amount, Share
from ssljax.wrappers.recording_forward import (
  LABELLED,
  STRONG,
  VOTES,
  RecordingForward,
)

# What it does if all classes have the same number of labelled texts.
EVEN = "has no effect on the class balance"
# Folded into the step's key; no other wrapper has these.
LABELLED_PASS, WEAK_PASS, STRONG_PASS, LABELLED_SAMPLE, UNLABELLED_SAMPLE = range(
  100, 105
)


class State(NamedTuple):
  inner: Any  # of the method
  share: jax.Array  # f32 [C], n_min / n_c


def make(method: Method, scale: Amount = 1.0, threshold: Share = 0.95) -> Method:
  """Keywords as above."""
  if method.needs.virtual_classes:
    raise ValueError("it does not support methods with virtual classes")

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
    sampled = in_sample(key(LABELLED_SAMPLE), batch.labelled.index, label @ state.share)
    q = jax.lax.stop_gradient(jax.nn.softmax(weak.heads["balanced"]))
    predicted = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    probability = 1.0 - clock.progress * (1.0 - predicted @ state.share)
    unlabelled_sampled = (q.max(-1) >= threshold) & in_sample(
      key(UNLABELLED_SAMPLE), batch.unlabelled.index, probability
    )
    terms = terms | {
      "balanced": Term(
        cross_entropy(labelled.heads["balanced"], label),
        sampled.astype(jnp.float32),
        scale,
      ),
      "balanced_unlabelled": Term(
        cross_entropy(strong.heads["balanced"], q),
        unlabelled_sampled.astype(jnp.float32),
        scale,
      ),
    }
    return terms, State(inner, state.share), assigned

  needs = method.needs._replace(
    heads={**method.needs.heads, "balanced": Head("linear")}, predicts="balanced"
  )
  return Method(needs, init, loss, predict=lambda outputs: outputs.heads["balanced"])


def in_sample(key, index, probability):
  """bool [n], true for each row with its probability."""
  return draws.by_row(key, index, jax.random.uniform) < probability

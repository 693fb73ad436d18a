"""DASO (Oh et al. 2022, arXiv 2106.05682): blends predictions and similarities.

The prototype of a class is the mean feature of its newest labelled texts. With

  p = p(y | weak(u)),   k = argmax p
  s = softmax(cos(feature of weak(u), prototypes) / T)
  v_c = (m_c / max m)^(1 / T_dist)

the method computes its targets from (1 - v_k) p + v_k s instead of p (equations 3 to
5). Here m_c is the running frequency of predictions of class c (`ops.averages`; in the
authors' code, their frequency in the last 100 steps). The more often class k is
predicted, the more weight the similarities s get. The strong view learns s as well:

  loss = the method's loss
       + scale * mean CE(softmax(cos(feature of strong(u), prototypes) / T), s)

Both changes start when the warm-up is over and each class has a prototype. If a class
has no labelled text, they never start. A prototype is an exponential mean over about
`newest` texts of its class. (In the paper, it is the mean of a queue of features from a
model with averaged parameters.)
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Method, Term, cross_entropy
from ssljax.ops import alignment, averages, bank
from ssljax.options import Amount, Count, Published, Share, Temperature
from ssljax.wrappers.recording_forward import (
  LABELLED,
  STRONG,
  VOTES,
  RecordingForward,
  with_probability,
)
from ssljax.wrappers.requirements import refuse

Array = jax.Array
# Folded into the step's key; no other wrapper uses these numbers.
STRONG_PASS, LABELLED_PASS = 200, 201


class State(NamedTuple):
  inner: Any  # the method's state
  feature: Array  # f32 [C, D], weighted sums
  count: Array  # f32 [C], their total weights
  vote: Array  # f32 [C], m


def make(
  method: Method,
  scale: Annotated[Amount, "weight of the similarity loss"] = 1.0,
  temperature: Annotated[Temperature, "T of the similarities to prototypes"] = 0.05,
  distribution: Annotated[
    Temperature, "T_dist; higher values give similarities more weight"
  ] = 1.5,
  warmup: Annotated[
    Share, "share of the run before targets change", Published(0.02)
  ] = 0.05,
  newest: Annotated[Count, "approximate number of texts in a prototype"] = 256,
  momentum: averages.Momentum = 0.99,
  time_constant: averages.TimeConstant = averages.TIME_CONSTANT,
) -> Method:
  """Wraps the method; see the module docstring for the equations."""
  refuse(method.needs, "several_classifiers", "labelled_targets", "other_votes")

  def init(sizes):
    return State(
      method.init(sizes),
      jnp.zeros((sizes.classes, sizes.width), jnp.float32),
      jnp.zeros(sizes.classes, jnp.float32),
      alignment.uniform(sizes.classes),
    )

  def similarity(features, state):
    """Logits f32 [n, C]."""
    return bank.unit(features) @ bank.unit(state.feature).T / temperature

  def loss(forward, batch, state, clock):
    started = (clock.progress >= warmup) & (state.count > 0).all()
    classes, votes = state.count.shape[0], []

    def blend(outputs, name):
      if name != VOTES:
        return outputs
      p = jax.lax.stop_gradient(jax.nn.softmax(outputs.logits[:, :classes]))
      s = jax.nn.softmax(jax.lax.stop_gradient(similarity(outputs.features, state)))
      v = (state.vote / state.vote.max()) ** (1.0 / distribution)
      v = v[p.argmax(-1)][:, None]
      blended = jnp.where(started, (1.0 - v) * p + v * s, p)
      votes.append((blended, s))
      return with_probability(outputs, blended)

    recorder = RecordingForward(forward, batch, blend)
    terms, inner, assigned = method.loss(recorder, batch, state.inner, clock)
    blended, s = votes[0]
    strong = recorder.outputs(STRONG, jax.random.fold_in(clock.key, STRONG_PASS))
    error = cross_entropy(similarity(strong.features, state), s)
    terms = {**terms, "likeness": Term(error, started.astype(jnp.float32), scale)}

    key = jax.random.fold_in(clock.key, LABELLED_PASS)
    labelled = recorder.outputs(LABELLED, key)
    label = batch.labelled.label[:, :classes]
    decay = (1.0 - 1.0 / newest) ** label.sum(0)
    feature = label.T @ jax.lax.stop_gradient(labelled.features)
    share = averages.share_of_newest(clock, momentum, time_constant)
    predicted = jax.nn.one_hot(blended.argmax(-1), classes, dtype=jnp.float32)
    state = State(
      inner,
      decay[:, None] * state.feature + feature,
      decay * state.count + label.sum(0),
      averages.updated(state.vote, predicted.mean(0), share),
    )
    return terms, state, assigned

  return method._replace(init=init, loss=loss, assign=None, learn=None)

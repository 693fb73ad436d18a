"""ABC (Lee et al. 2021, arXiv 2110.10368): a balanced classifier beside the method.

An extra linear head on the same features learns from a sample in which all classes are
alike: a labelled text of class y is in with probability n_min / n_y; an unlabelled one
whose head says q of the weak view, at least `threshold` of it for c = argmax q, with
1 - t (1 - n_min / n_c), t the progress of the run (equations 2 to 4):

  loss = the method's
       + scale * (mean 1[in] CE(h(x), y) + mean 1[in] CE(h(strong(u)), q))

The target is q itself and not c, as in the authors' code, here of one strong view and
there of two. Predictions are the extra head's. n counts labelled texts.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Head, Method, Term, cross_entropy
from ssljax.ops import draws
from ssljax.options import Amount, Share
from ssljax.wrappers import recording_forward

# Where all classes have equally many labelled texts.
EVEN = "balances nothing by their numbers"


class State(NamedTuple):
  inner: Any  # the method's
  share: jax.Array  # f32 [C], n_min / n_c


def make(method: Method, scale: Amount = 1.0, threshold: Share = 0.95) -> Method:
  """Keywords as above."""
  if method.needs.virtual_classes:
    raise ValueError("takes no method with virtual classes")

  def init(sizes):
    counts = jnp.array(sizes.labelled_counts or [1] * sizes.classes, jnp.float32)
    counts = jnp.maximum(counts, 1.0)
    return State(method.init(sizes), counts.min() / counts)

  def loss(forward, batch, state, clock):
    keys = [jax.random.fold_in(clock.key, 100 + k) for k in range(5)]
    heard = recording_forward.Listening(forward)
    terms, inner, assigned = method.loss(heard, batch, state.inner, clock)
    unlabelled, label = batch.unlabelled, batch.labelled.label
    labelled = heard.said(batch.labelled.views["weak"], True, keys[0])
    weak = heard.said(unlabelled.views["weak"], False, keys[1])
    strong = heard.said(unlabelled.views["strong"], True, keys[2])
    q = jax.lax.stop_gradient(jax.nn.softmax(weak.heads["balanced"]))
    chosen = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    chance = 1.0 - clock.progress * (1.0 - chosen @ state.share)
    luck = [
      draws.by_row(key, index, jax.random.uniform)
      for key, index in ((keys[3], batch.labelled.index), (keys[4], unlabelled.index))
    ]
    kept = luck[0] < label @ state.share
    taken = (luck[1] < chance) & (q.max(-1) >= threshold)
    more = {
      "balanced": (labelled, label, kept),
      "balanced_unlabelled": (strong, q, taken),
    }
    terms = terms | {
      name: Term(
        cross_entropy(said.heads["balanced"], target), some.astype(jnp.float32), scale
      )
      for name, (said, target, some) in more.items()
    }
    return terms, State(inner, state.share), assigned

  needs = method.needs._replace(
    heads={**method.needs.heads, "balanced": Head("linear")}
  )
  return Method(needs, init, loss, predict=lambda outputs: outputs.heads["balanced"])

"""ReMixMatch (Berthelot et al. 2020, arXiv 1911.09785) on text: aligned and anchored.

The guess q of an unlabelled text is p of its weak view, aligned to the labelled class
frequency over its mean of the last `window` batches (section 3.1) and sharpened to
q^(1/T). It anchors the strong views (section 3.2). All of [x, strong(u), strong'(u),
weak(u)] with their targets [y, q, q, q] are mixed in pairs (`ops.mixing`):

  loss = mean CE(mixed x) + scale * ramp(t) * mean CE(mixed u)
       + anchor * ramp(t) * mean CE(p(strong(u)), q)

The last term reads the strong view unmixed: with mix="pooled" in the pass that mixes
its features, with "hidden" in one more (`mix` as in MixMatch). Mixed unlabelled texts
have a gradient into the encoder. Rotation is for images and left out. (The paper
augments x strongly, too.)

Two settings of published text code do not suit a run of hundreds of steps. An
exponential mean of momentum 0.999 in place of the window is the untrained model's then,
and a model that has learned the frequency has its guesses scaled by it once more. And a
ramp of 1/64 is over in five steps: sharpened guesses of an untrained model are learned
at full weight, and where one class is rare none of them names it. It is MixMatch's 0.4.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Term, cross_entropy
from ssljax.ops import alignment, mixing, ramps
from ssljax.options import Amount, Count, Share


class State(NamedTuple):
  labelled: jax.Array  # f32 [C], class frequency
  model: alignment.Window  # means of p(weak(u))


def make(
  mix: Literal["pooled", "hidden"] = "pooled",
  alpha: Amount = 0.75,
  temperature: Amount = 0.5,
  scale: Amount = 1.5,
  anchor: Amount = 0.5,
  window: Count = 128,
  ramp: Share = 0.4,
) -> Method:
  """Args: `scale`, `anchor` at the end of the ramp; `window` as above."""

  def init(sizes):
    counts = jnp.array(sizes.labelled_counts or [1] * sizes.classes, jnp.float32)
    return State(counts / counts.sum(), alignment.window_init(window, sizes.classes))

  def loss(forward, batch, state, clock):
    guess_key, pair_key, mix_key, key = jax.random.split(clock.key, 4)
    unlabelled, label = batch.unlabelled.views, batch.labelled.label
    weak = forward(unlabelled["weak"], key=guess_key, gradient=False)
    p = jax.lax.stop_gradient(jax.nn.softmax(weak.logits))
    model = alignment.window_update(state.model, p.mean(0))
    q = alignment.aligned(p, state.labelled, alignment.window_mean(model))
    q = alignment.sharpened(q, temperature)
    many = label.shape[0]
    target = jnp.concatenate([label, q, q, q])
    rows = [batch.labelled.index, *[batch.unlabelled.index] * 3]
    partner, share = mixing.pairs(pair_key, rows, alpha)
    target = mixing.mixed(target, partner, share)
    views = [unlabelled[name] for name in ("strong", "strong_2", "weak")]
    views = [batch.labelled.views["weak"], *views]
    logits, whole = mixing.logits(forward, views, partner, share, mix_key, mix)
    strong = whole[1] if whole else forward(unlabelled["strong"], key=key)
    error, ramped = cross_entropy(logits, target), ramps.linear(clock.progress, ramp)
    terms = {
      "labelled": Term(error[:many]),
      "unlabelled": Term(error[many:], 1.0, scale * ramped),
      "anchor": Term(cross_entropy(strong.logits, q), 1.0, anchor * ramped),
    }
    state = state._replace(model=model)
    return terms, state, Assignment(q, jnp.ones(q.shape[0], jnp.float32))

  needs = Needs(
    views=("weak", "strong", "strong_2"),
    layout="padded" if mix == "hidden" else "",
    mixes=True,
    soft=True,
  )
  return Method(needs, init, loss)

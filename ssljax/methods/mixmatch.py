"""MixMatch (Berthelot et al. 2019, arXiv 1905.02249) on text: mixes texts and labels.

The guessed label q of an unlabelled text is the mean prediction on its two views,
sharpened to q^(1/T). All texts [x, weak(u), strong(u)] and their targets [y, q, q] are
mixed in pairs (`ops.mixing`). Each text's share of its mixture is drawn separately, and
is at least half:

  loss = mean CE(mixed x, mixed y)
       + scale * ramp(t) * mean_2U (C / 2) sum_c (p_c - target_c)^2

The paper has mean_c (p_c - target_c)^2. Its weight of 75 for ten classes is the same as
our `scale` of 1.5, which suits any number of classes (see `ops.agreement.square`). With
two classes, the weight 75 would be a `scale` of 37.5, and the weight 100 of published
code for text would be 50. With such a weight, the sharpened guesses of an untrained
model reinforce themselves, and nearly all texts end up in one class. For CIFAR-10, the
authors use an `alpha` of 0.75 and a ramp over 1/64 of the run.

`mix="pooled"` mixes the features that the classifier reads. `mix="hidden"` mixes the
hidden states after a layer drawn at each step (TMix; needs layout=padded). In both
cases, unlabelled texts train the encoder. In published code for text they don't, since
their features come from the pass without gradient.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Term, cross_entropy, stateless
from ssljax.ops import agreement, alignment, mixing, ramps
from ssljax.options import Amount, Published, Share


def make(
  mix: mixing.Where = "pooled",
  alpha: Annotated[
    Amount, "parameter of the Beta distribution of the shares", Published(0.75)
  ] = 0.5,
  temperature: Annotated[Amount, "T, sharpens the guessed labels"] = 0.5,
  scale: Annotated[Amount, "weight of the unlabelled loss after the ramp"] = 1.5,
  ramp: Annotated[
    Share, "share of the run over which scale rises from 0", Published(1 / 64)
  ] = 0.4,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def loss(forward, batch, state, clock):
    guess_key, pair_key, key = jax.random.split(clock.key, 3)
    views = [batch.unlabelled.views[name] for name in ("weak", "strong")]
    weak, strong = forward(*views, key=guess_key, gradient=False)
    q = (jax.nn.softmax(weak.logits) + jax.nn.softmax(strong.logits)) / 2
    q = jax.lax.stop_gradient(alignment.sharpened(q, temperature))
    labelled = batch.labelled.label.shape[0]
    target = jnp.concatenate([batch.labelled.label, q, q])
    rows = [batch.labelled.index, *[batch.unlabelled.index] * 2]
    partner, share = mixing.pairs(pair_key, rows, alpha)
    target = mixing.mixed(target, partner, share)
    views = [batch.labelled.views["weak"], *views]
    logits, _ = mixing.logits(forward, views, partner, share, key, mix)
    error = agreement.square(jax.nn.softmax(logits[labelled:]), target[labelled:])
    terms = {
      "labelled": Term(cross_entropy(logits[:labelled], target[:labelled])),
      "unlabelled": Term(error, 1.0, scale * ramps.linear(clock.progress, ramp)),
    }
    return terms, state, Assignment(q, jnp.ones(q.shape[0], jnp.float32))

  layout = "padded" if mix == "hidden" else ""
  needs = Needs(layout=layout, mixes=True, votes=("weak", "strong"), soft=True)
  return Method(needs, stateless, loss)

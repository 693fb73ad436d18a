"""ReMixMatch (Berthelot et al. 2020, arXiv 1911.09785) on text: aligned labels.

The guessed label q of an unlabelled text is the prediction p on its weak view, aligned
and then sharpened to q^(1/T). Alignment multiplies p by the labelled class frequency
and divides it by the mean of p over the last `window` batches (section 3.1). The same q
is the target of the weak and of both strong views (section 3.2). All texts
[x, strong(u), strong'(u), weak(u)] and their targets [y, q, q, q] are mixed in pairs
(`ops.mixing`):

  loss = mean CE(mixed x) + scale * ramp(t) * mean CE(mixed u)
       + anchor * ramp(t) * mean CE(p(strong(u)), q)

The last term uses the unmixed strong view. With mix="pooled", its prediction comes from
the pass whose features are mixed; with "hidden", it needs an additional pass. (`mix` is
the same as in MixMatch.) Mixed unlabelled texts train the encoder. The paper's rotation
task is left out, since it is for images. The paper also augments x strongly; we don't.

Two settings of published code for text don't suit a run of a few hundred steps. First,
instead of the window it has an exponential mean with momentum 0.999. In so few steps,
this mean stays close to the mean of the untrained model. Once the model has learned the
class frequency, alignment multiplies its guesses by this frequency again. Second, the
ramp is 1/64 of the run, as in the authors' code, so it ends after about five steps. The
model then learns the sharpened guesses of an untrained model at full weight, and never
guesses a rare class. We use MixMatch's ramp, 0.4.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.batch import SecondCandidate
from ssljax.method import Assignment, Method, Needs, Term, cross_entropy
from ssljax.ops import alignment, mixing, ramps
from ssljax.options import Amount, Count, Published, Share

SECOND_STRONG = SecondCandidate("strong")


class State(NamedTuple):
  labelled: jax.Array  # f32 [C], class frequency
  model: alignment.Window  # means of p(weak(u))


def make(
  mix: mixing.Where = "pooled",
  alpha: Annotated[Amount, "parameter of the Beta distribution of the shares"] = 0.75,
  temperature: Annotated[Amount, "T, sharpens the guessed labels"] = 0.5,
  scale: Annotated[Amount, "weight of mixed unlabelled texts after the ramp"] = 1.5,
  anchor: Annotated[Amount, "weight of unmixed strong views after the ramp"] = 0.5,
  window: Annotated[Count, "number of batches whose mean is aligned"] = 128,
  ramp: Annotated[
    Share, "share of the run over which both weights rise from 0", Published(1 / 64)
  ] = 0.4,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

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
    target = jnp.concatenate([label, q, q, q])
    rows = [batch.labelled.index, *[batch.unlabelled.index] * 3]
    partner, share = mixing.pairs(pair_key, rows, alpha)
    target = mixing.mixed(target, partner, share)
    views = [unlabelled[name] for name in ("strong", SECOND_STRONG, "weak")]
    views = [batch.labelled.views["weak"], *views]
    logits, unmixed = mixing.logits(forward, views, partner, share, mix_key, mix)
    strong = unmixed[1] if unmixed else forward(unlabelled["strong"], key=key)
    error, ramped = cross_entropy(logits, target), ramps.linear(clock.progress, ramp)
    labelled = label.shape[0]
    terms = {
      "labelled": Term(error[:labelled]),
      "unlabelled": Term(error[labelled:], 1.0, scale * ramped),
      "anchor": Term(cross_entropy(strong.logits, q), 1.0, anchor * ramped),
    }
    state = state._replace(model=model)
    return terms, state, Assignment(q, jnp.ones(q.shape[0], jnp.float32))

  needs = Needs(
    views=("weak", "strong", SECOND_STRONG),
    layout="padded" if mix == "hidden" else "",
    mixes=True,
    soft=True,
  )
  return Method(needs, init, loss)

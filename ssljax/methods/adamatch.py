"""AdaMatch (Berthelot et al. 2022, arXiv 2106.04732): relative threshold, alignment.

  q' = Normalise(q * mean p(x) / mean q),  q = p(y | weak(u)), running means
  weight(u) = 1[max q' >= threshold * mean_b max p(x_b)], over the labelled batch
  loss = CE(z(x)) + scale * mean weight * CE(p(strong(u)), argmax q')

Random logit interpolation replaces every labelled logit, including those in p(x), with
l z_1 + (1 - l) z_2. l is uniform and drawn for each logit. z_1 comes from a pass over
the labelled and unlabelled texts together, z_2 from a pass over the labelled texts
alone. In the paper, z_1 and z_2 differ because of batch normalisation; here they differ
only because of dropout.

As in the authors' code, the target is hard, the labelled mean is exponential, and the
unlabelled mean is over the last `window` batches. Both remember at most a share of the
run (`ops.averages`). The paper's equations have soft targets and means over a single
batch (`momentum` 0). In the authors' code, both means start at 1/C, as if earlier
batches had been uniform; ours start at the first batch. Unlike us, the authors train on
the labelled strong view as well, raise the weight of the unlabelled loss over the first
half of the run, and use a threshold of 0.9.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Term, cross_entropy
from ssljax.ops import alignment, averages, draws
from ssljax.options import Absent, Amount, Natural, Published, Share


class State(NamedTuple):
  labelled: alignment.Average  # f32 [C], mean of p(x)
  model: alignment.Window | alignment.Average  # mean of q


def make(
  threshold: Annotated[
    Share,
    "minimum confidence of a pseudo-label, relative to the labelled mean",
    Published(0.9),
  ] = 0.95,
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  momentum: averages.Momentum = 0.999,
  time_constant: averages.TimeConstant = averages.TIME_CONSTANT,
  window: Annotated[
    Natural,
    "number of batches whose mean is the unlabelled mean, at most the time constant; "
    "0: a running average",
    Absent(0),
  ] = 128,
  interpolation: Annotated[
    bool, "interpolate labelled logits (costs one more pass)"
  ] = True,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def init(sizes):
    average = alignment.average_init(sizes.classes)
    if not window:
      return State(average, average)
    limit = round(time_constant * sizes.steps) if time_constant else window
    length = max(1, min(window, limit))
    return State(average, alignment.window_init(length, sizes.classes))

  def loss(forward, batch, state, clock):
    weak_key, key, alone_key, mix_key = jax.random.split(clock.key, 4)
    weak = forward(batch.unlabelled.views["weak"], key=weak_key, gradient=False)
    labelled, strong = forward(*batch.labelled_and("strong"), key=key)
    logits = labelled.logits
    if interpolation:
      alone = forward(batch.labelled.views["weak"], key=alone_key).logits
      draw = lambda key: jax.random.uniform(key, logits.shape[-1:])
      share = draws.by_row(mix_key, batch.labelled.index, draw)
      logits = share * logits + (1.0 - share) * alone
    p, q = jax.lax.stop_gradient((jax.nn.softmax(logits), jax.nn.softmax(weak.logits)))
    share = averages.share_of_newest(clock, momentum, time_constant)
    labelled_mean = alignment.average_update(state.labelled, p.mean(0), share)
    if window:
      model = alignment.window_update(state.model, q.mean(0))
      mean = alignment.window_mean(model)
    else:
      model = alignment.average_update(state.model, q.mean(0), share)
      mean = model.mean
    state = State(labelled_mean, model)
    q = alignment.aligned(q, state.labelled.mean, mean)
    cutoff = threshold * p.max(-1).mean()
    target = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    weight = (q.max(-1) >= cutoff).astype(jnp.float32)
    terms = {
      "labelled": Term(cross_entropy(logits, batch.labelled.label)),
      "unlabelled": Term(cross_entropy(strong.logits, target), weight, scale),
    }
    return terms, state, Assignment(target, weight, {"threshold": cutoff})

  return Method(Needs(relative=True, filters=True), init, loss)

"""JointMatch (Zou & Caragea 2023, arXiv 2310.14583): two networks teach each other.

The networks start from the same pretrained encoder, but with different heads. Network i
learns the labels of its peer j. q_i = p_i(y | weak(u)), and p~ is the running mean of
the predictions of both networks:

  T(c) = threshold * p~(c) / max p~
  m_i = 1[max q_i >= T(argmax q_i)]
  w_i = m_j (disagreement (1 - m_i) + (1 - disagreement) m_i)
  loss = sum_i CE(z_i(x), y) + scale * sum_i mean w_i CE(z_i(strong(u)), argmax q_j)

The three parts of the method are thresholds that are lower for classes that the
networks predict rarely (adaptive local thresholds), labels from the peer (cross
labelling), and more weight for texts of which only the peer is confident (weighted
disagreement), so that the networks stay different. Labels don't matter for the weight:
if both networks are confident, each learns the label of the other, even if the labels
differ. The predicted probabilities are the mean over both networks.

The definitions and defaults are those of the authors' code. p~ takes in first the mean
of q_1, then the mean of q_2, and each network uses its thresholds right after its own
update. Its memory fits the length of the run (`ops.averages`); with `time_constant=0`,
it starts at 1/C, as in the authors' code.

Differences from the authors' code:

* A step learns from labelled and unlabelled texts at once. (The authors alternate: one
  update with labelled texts, then ten with unlabelled ones.)
* The authors use a BERT with `--config.head=hf` and without layer decay. For IMDB,
  which is binary, they set `scale` to 0.05 and average the parameters
  (`--config.ema=0.9`).
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from ssljax.method import (
  Assignment,
  Head,
  Method,
  Needs,
  Term,
  assign_then_learn,
  cross_entropy,
)
from ssljax.ops import alignment, averages, voters
from ssljax.options import Amount, Share

NETWORKS = 2


def make(
  threshold: Annotated[
    Share, "minimum confidence of a pseudo-label of the class that is predicted most"
  ] = 0.98,
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  disagreement: Annotated[
    Share, "weight of texts of which only the peer is confident; others: 1 minus this"
  ] = 0.9,
  momentum: averages.Momentum = 0.9,
  time_constant: averages.TimeConstant = averages.TIME_CONSTANT,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def init(sizes):
    return alignment.uniform(sizes.classes)  # p~, f32 [C]

  def assign(forward, batch, average, clock):
    weak = forward(batch.unlabelled.views["weak"], key=clock.assign_key, gradient=False)
    q = jax.lax.stop_gradient(jax.nn.softmax(weak.heads["peers"]))  # [U, 2, C]
    label = q.argmax(-1)  # [U, 2]
    confident = []  # m_i
    for i in range(NETWORKS):
      update = clock._replace(
        step=NETWORKS * clock.step + i, steps=NETWORKS * clock.steps
      )
      share = averages.share_of_newest(update, momentum, time_constant)
      average = averages.updated(average, q[:, i].mean(0), share)
      cutoff = threshold * average / average.max()
      confident.append(q[:, i].max(-1) >= cutoff[label[:, i]])
    own = jnp.stack(confident, axis=1)  # [U, 2]
    peer = own[:, ::-1]
    weight = peer * jnp.where(own, 1.0 - disagreement, disagreement)
    one_hot = jax.nn.one_hot(label[:, ::-1], q.shape[-1], dtype=jnp.float32)
    scalars = {
      "threshold": cutoff.mean(),
      "agreement": (label[:, 0] == label[:, 1]).mean(dtype=jnp.float32),
      "one_confident": (own ^ peer)[:, 0].mean(dtype=jnp.float32),
    }
    # For reports: the mean label, and the share of the networks that learn it.
    target = voters.mean_target(one_hot, weight)
    used = (weight > 0).mean(1, dtype=jnp.float32)
    return Assignment(target, used, scalars, (one_hot, weight)), average

  def learn(forward, batch, assigned, clock):
    labelled, strong = forward(*batch.labelled_and("strong"), key=clock.learn_key)
    target, weight = assigned.more  # [U, 2, C], [U, 2]
    label = batch.labelled.label[:, None]  # [B, 1, C]
    error = weight * cross_entropy(strong.heads["peers"], target)
    return {
      "labelled": Term(cross_entropy(labelled.heads["peers"], label).sum(1)),
      "unlabelled": Term(error.sum(1), 1.0, scale),
    }

  heads = {"peers": Head("network", NETWORKS)}
  needs = Needs(heads=heads, predicts="peers", filters=True)
  return assign_then_learn(needs, init, assign, learn, predict)


def predict(outputs):
  """log of the mean of both networks' probabilities, f32 [n, C]."""
  log_p = jax.nn.log_softmax(outputs.heads["peers"])  # [n, 2, C]
  return jax.nn.logsumexp(log_p, axis=1) - jnp.log(float(NETWORKS))

"""UDA (Xie et al. 2020, arXiv 1904.12848): sharpened predictions teach the strong view.

  loss = (1/Z) sum_b 1[p_y(x_b) <= eta_t] CE(x_b)
       + scale * mean 1[max q >= threshold] CE(p(strong(u)), q^(1/T) / sum q^(1/T))

with q = p(y | weak(u)). The paper has a divergence in place of the last cross-entropy;
the gradient is the same. Training signal annealing drops a labelled text if the model
gives its *correct* class a probability above eta_t = a_t (1 - 1/C) + 1/C. Z is the
number of labelled texts that remain. At progress t, a_t is t ("linear"), e^(5(t - 1))
("exp"), 1 - e^(-5t) ("log") or 1 ("off").

The authors' scripts for text use the schedule "linear". They have no threshold, and
they don't sharpen with BERT-base; with BERT-large, T is 0.85. A threshold of 0.8 and a
T of 0.4 are the authors' values for images. The code of published comparisons doesn't
sharpen, compares max p with eta_t, and uses "exp" for text, which drops almost all
labelled texts at first.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Rule, consistency, stateless
from ssljax.options import Amount, Published, Share

SCHEDULES = {
  "linear": lambda t: t,
  "exp": lambda t: jnp.exp(5.0 * (t - 1.0)),
  "log": lambda t: 1.0 - jnp.exp(-5.0 * t),
  "off": jnp.ones_like,
}


def make(
  threshold: Annotated[
    Share, "minimum confidence, before sharpening", Published(0.0)
  ] = 0.8,
  temperature: Annotated[Amount, "T, sharpens labels", Published(1.0)] = 0.4,
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  annealing: Annotated[
    Literal["linear", "exp", "log", "off"], "schedule of training signal annealing"
  ] = "linear",
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def assign(state, evidence, clock):
    q = jax.nn.softmax(evidence.logits)
    target = jax.nn.softmax(evidence.logits / max(temperature, 1e-6))
    return Assignment(target, (q.max(-1) >= threshold).astype(jnp.float32)), state

  def labelled_weight(evidence, clock):
    classes = evidence.label.shape[-1]
    correct = (jax.nn.softmax(evidence.labelled_logits) * evidence.label).sum(-1)
    a = SCHEDULES[annealing](clock.progress)
    keep = (correct <= a * (1 - 1 / classes) + 1 / classes).astype(jnp.float32)
    return keep * keep.shape[0] / jnp.maximum(keep.sum(), 1.0)

  rule = Rule(stateless, assign, labelled_weight=labelled_weight)
  return consistency(rule, scale, Needs(soft=True, filters=threshold > 0))

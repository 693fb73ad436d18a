"""Dash (Xu et al. 2021, arXiv 2109.00650): a decreasing threshold on the loss.

A text is used if its loss on the weak view is low enough:

  CE(weak(u), target) <= rho_k = max(c * gamma^(-k) * rho_hat, least)
  loss = CE(x) + scale * mean 1[loss low enough] CE(p(strong(u)), target)

rho_hat is the mean labelled loss during the warm-up, when training is supervised.
(Published code computes rho_hat on validation texts, the authors' code on unlabelled
texts.) The rest of the run is divided into `cuts` equal parts, and k is the number of
the part, starting with 0. As in published code for text, `cuts` is 10; the authors
lower the threshold every 9 of 1,024 epochs, after a warm-up of 10. Targets are soft,
q^(1/T), until rho_k reaches `least`; from then on, they are hard. The loss on the weak
view uses the current target (in the authors' code, always the hard target). The authors
average the unlabelled loss over the texts below the threshold; we average it over all.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Rule, consistency, cross_entropy
from ssljax.options import Amount, Count, Factor, Published, Share

Array = jax.Array


class State(NamedTuple):
  loss: Array  # f32 [], sum of the labelled losses during the warm-up
  steps: Array  # i32 [], warm-up steps so far


def make(
  gamma: Annotated[
    Factor, "the threshold is divided by this in each new part of the run"
  ] = 1.27,
  c: Annotated[Amount, "initial threshold on the loss, relative to rho_hat"] = 1.0001,
  least: Annotated[Amount, "minimum threshold; once reached, labels are hard"] = 0.05,
  temperature: Annotated[Amount, "T, sharpens labels until they are hard"] = 0.5,
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  warmup: Annotated[
    Share,
    "share of the run with only supervised training; at least one step",
    Published(10 / 1024),
  ] = 0.02,
  cuts: Annotated[
    Count, "number of parts of the run after the warm-up", Published(113)
  ] = 10,
) -> Method:
  """Creates the method; see the module docstring for its equations."""

  def init(sizes):
    return State(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))

  def assign(state, evidence, clock):
    logits = evidence.logits
    warm = (clock.progress < warmup) | (clock.step == 0)
    labelled = cross_entropy(evidence.labelled_logits, evidence.label).mean()
    state = State(
      state.loss + jnp.where(warm, labelled, 0.0), state.steps + warm.astype(jnp.int32)
    )
    rest = jnp.maximum(clock.progress - warmup, 0.0) / max(1.0 - warmup, 1e-6)
    k = jnp.floor(cuts * rest)
    rho_hat = state.loss / jnp.maximum(state.steps, 1).astype(jnp.float32)
    rho = jnp.maximum(c * gamma**-k * rho_hat, least)
    hard = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=jnp.float32)
    soft = jax.nn.softmax(logits / max(temperature, 1e-6))
    target = jnp.where(rho > least, soft, hard)
    low = cross_entropy(logits, target) <= rho
    weight = (low & ~warm).astype(jnp.float32)
    return Assignment(target, weight, {"threshold": rho}), state

  return consistency(
    Rule(init, assign), scale, Needs(relative=True, soft=True, filters=True)
  )

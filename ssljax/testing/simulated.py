"""Runs a method's state on the outputs of a simulated classifier; trains no model.

A method gets simulated logits, and its own state decides what it uses, as in a run. A
text of class y has the logit

  z_y - z_other = gain(t) (level + d + 0.3 e)

d ~ N(0, 1) belongs to the text, and e ~ N(0, 1) is new at each visit. The gain rises
over the first 30% of the run, from 0.5 to 4.8. `level` is the quality of the model:
0.5, 1 and 1.5, which are accuracies of 0.68, 0.83 and 0.92. FixMatch with a threshold
of 0.95 uses about 0.70 of the texts at the middle level.

An extra class, as of MarginMatch's `virtual_class`, has the constant logit -1, so the
simulation doesn't show what its cut-off does.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.batch import Batch, Labelled, Unlabelled
from ssljax.method import Clock, Method, Outputs, Sizes

B, U, LABELLED, WIDTH = 16, 48, 200, 8
LEVELS = {"low": 0.5, "middle": 1.0, "high": 1.5}
FIRST_GAIN, LAST_GAIN, RISE = 0.5, 4.8, 0.3
NOISE = 0.3


class Shares(NamedTuple):
  """What a method used in the last fifth of a run."""

  share: float
  purity: float
  accuracy: float
  correlation: float


class Simulated:
  """A `Forward` whose outputs follow from the simulated logits.

  A view is (logits f32 [n, C], features f32 [n, WIDTH]). Each voter or network has the
  logits with different noise.
  """

  depth = 1

  def __init__(self, needs, key, gain):
    self.needs, self.key, self.gain = needs, key, gain

  def __call__(self, *texts, key, teacher=False, gradient=True):
    outputs = tuple(self.outputs(*view) for view in texts)
    return outputs if len(texts) > 1 else outputs[0]

  def outputs(self, logits, features) -> Outputs:
    classes = logits.shape[-1] + self.needs.virtual_classes
    padded = jnp.pad(
      logits, ((0, 0), (0, self.needs.virtual_classes)), constant_values=-1.0
    )
    heads = {}
    for number, (name, head) in enumerate(self.needs.heads.items()):
      key = jax.random.fold_in(self.key, number)
      if head.kind in ("classifier", "network"):
        noise = jax.random.normal(key, (logits.shape[0], head.count, 1))
        sides = jnp.array([-0.5, 0.5]) * NOISE * self.gain
        heads[name] = logits[:, None] + noise * sides
      elif head.kind == "projection":
        width = (head.width or WIDTH) - WIDTH
        heads[name] = jnp.pad(features, ((0, 0), (0, width)))
      else:
        heads[name] = jnp.zeros((logits.shape[0], head.width or classes))
    return Outputs(padded, features, heads)


def simulator(method: Method, steps: int, pool: int) -> Callable[..., Shares]:
  """Returns a function (level, seed=0) -> `Shares`, which runs the method's state."""
  run = _compiled(method, steps, pool)
  passes = -(-steps * U // pool) + 1

  def simulate(level: float, seed: int = 0) -> Shares:
    rng = np.random.default_rng(seed)
    truth = jnp.asarray(rng.integers(0, 2, pool), jnp.int32)
    ease = jnp.asarray(rng.normal(size=pool), jnp.float32)
    order = np.concatenate([rng.permutation(pool) for _ in range(passes)])
    order = jnp.asarray(order[: steps * U].reshape(steps, U), jnp.int32)
    weights, right = (np.asarray(a) for a in run(truth, ease, order, level))
    weights = np.minimum(weights[-steps // 5 :], 1.0).ravel()
    right, used = right[-steps // 5 :].ravel(), weights.sum()
    return Shares(
      share=float(weights.mean()),
      purity=float((weights * right).sum() / used) if used else float("nan"),
      accuracy=float(right.mean()),
      correlation=float(np.corrcoef(weights, right)[0, 1]) if weights.std() else 0.0,
    )

  return simulate


def _compiled(method: Method, steps: int, pool: int):
  """The run (truth [N], ease [N], order [steps, U], level) -> (weight, right)."""
  needs = method.needs
  epoch = -(-LABELLED // B)
  counts = (LABELLED // 2, LABELLED // 2)
  sizes = Sizes(2, LABELLED, pool, B, U, steps, epoch, counts, WIDTH)
  classes = 2 + needs.virtual_classes

  def view(truth, margin):
    side = 2.0 * truth - 1.0
    logits = 0.5 * (side * margin)[:, None] * jnp.array([-1.0, 1.0])
    angle = jnp.arctan(margin * side)  # texts of a class are similar
    features = jnp.zeros((len(margin), WIDTH))
    features = features.at[:, 0].set(jnp.cos(angle)).at[:, 1].set(jnp.sin(angle))
    return logits, features

  def step(truth, ease, level, state, inputs):
    t, index = inputs
    key = jax.random.fold_in(jax.random.key(0), t)
    keys = jax.random.split(key, 8)
    progress = t.astype(jnp.float32) / steps
    rise = jnp.minimum(progress / RISE, 1.0)
    gain = FIRST_GAIN + (LAST_GAIN - FIRST_GAIN) * rise

    def views(names, truth, ease):
      make = lambda k: view(
        truth, gain * (level + ease + NOISE * jax.random.normal(k, ease.shape))
      )
      return {name: make(keys[i]) for i, name in enumerate(names)}

    rows = (t * B + jnp.arange(B)) % LABELLED
    label = jnp.asarray(rows % 2)
    hardness = jax.random.normal(keys[6], (B,))
    batch = Batch(
      Labelled(
        views(
          needs.labelled_views, label, hardness + 1.0
        ),  # labelled texts are learned
        jax.nn.one_hot(label, classes),
        rows.astype(jnp.int32),
      ),
      Unlabelled(views(needs.views, truth[index], ease[index]), index),
    )
    clock = Clock(t, progress, t // epoch, keys[7], steps)
    forward = Simulated(needs, keys[5], gain)
    _, state, assigned = method.loss(forward, batch, state, clock)
    target = assigned.target[:, :2].argmax(-1)
    return state, (assigned.weight, target == truth[index])

  @jax.jit
  def run(truth, ease, order, level):
    body = functools.partial(step, truth, ease, level)
    inputs = jnp.arange(steps, dtype=jnp.int32), order
    return jax.lax.scan(body, method.init(sizes), inputs)[1]

  return run

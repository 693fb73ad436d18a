"""DARP (Kim et al. 2020, arXiv 2007.08844): pseudo-labels match the class frequency.

The wrapper stores the prediction y for each unlabelled row. Every `every` steps, it
computes the nearest x for which each class has its target number of rows:

  min sum_n (1 / H(y_n)) KL(x_n || y_n)   subject to  sum_n x_n = visited rows * pi

This is equation 3; pi is the labelled class frequency. (The authors' code uses pi only
if unlabelled texts have the same class frequency; otherwise it uses an estimate.)
Confident rows change least, since their entropy H is small. The solution is
x_n = softmax(log y_n - H(y_n) nu). Newton's method finds the multipliers nu of all
classes at once, starting from the previous nu. (The authors' code solves class by
class.) Before that, each class keeps only its most confident rows, `alpha` times its
target number (section 3.3). (The authors' code also rescales the probabilities that a
class keeps, so that they sum to its target number, and adds 1e-6 to all probabilities.
Between refinements, it uses the x of the last one; we compute x from the new y with the
last nu.) If many rows are confident or have few classes left, it may be impossible to
reach the target numbers. The metric `class_gap` is the error of the worst class, as a
share of the rows. After the warm-up, the method computes its targets from x instead of
y.
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Method
from ssljax.ops import alignment, quantiles
from ssljax.options import Amount, Count, Share
from ssljax.wrappers.recording_forward import VOTES, RecordingForward, with_probability
from ssljax.wrappers.requirements import refuse

Array = jax.Array
# What the wrapper does if all classes have the same number of labelled texts.
EVEN = "moves the pseudo-labels towards the same number in each class"
MAX_ITERATIONS = 30  # of Newton's method
TOLERANCE = 1e-5  # Newton's method stops when the gap is below this share of the rows


class State(NamedTuple):
  inner: Any  # the method's state
  seen: Array  # f32 [N, C], y; zeros before the first visit
  multiplier: Array  # f32 [C], nu
  gap: Array  # f32 [], error of the worst class, as a share of the rows
  least: Array  # f32 [C], a class drops rows whose probability is smaller
  wanted: Array  # f32 [C], pi


def make(
  method: Method,
  warmup: Annotated[Share, "share of the run before labels are refined"] = 0.4,
  every: Annotated[Count, "steps between two refinements"] = 10,
  alpha: Annotated[Amount, "rows kept by a class, relative to its target"] = 2.0,
) -> Method:
  """Wraps the method; see the module docstring for the equations."""
  refuse(method.needs, "several_classifiers", "labelled_targets", "other_votes")

  def init(sizes):
    counts = alignment.labelled_counts(sizes)
    return State(
      method.init(sizes),
      jnp.zeros((sizes.unlabelled, sizes.classes), jnp.float32),
      jnp.zeros(sizes.classes, jnp.float32),
      jnp.zeros((), jnp.float32),
      jnp.zeros(sizes.classes, jnp.float32),
      counts / counts.sum(),
    )

  def loss(forward, batch, state, clock):
    states = [state]

    def refine(outputs, name):
      if name != VOTES:
        return outputs
      classes = state.wanted.shape[0]
      p = jax.lax.stop_gradient(jax.nn.softmax(outputs.logits[:, :classes]))
      visited = states[-1]
      visited = visited._replace(seen=visited.seen.at[batch.unlabelled.index].set(p))
      due = (clock.progress >= warmup) & (clock.step % every == 0)
      multiplier, gap, least = jax.lax.cond(
        due,
        lambda s: solve(s.seen, s.wanted, s.multiplier, alpha),
        lambda s: (s.multiplier, s.gap, s.least),
        visited,
      )
      states.append(visited._replace(multiplier=multiplier, gap=gap, least=least))
      new = refined(keep_confident(p, least), multiplier)
      new = jnp.where(clock.progress >= warmup, new, p)
      return with_probability(outputs, new)

    recorder = RecordingForward(forward, batch, refine)
    terms, inner, assigned = method.loss(recorder, batch, state.inner, clock)
    state = states[-1]._replace(inner=inner)
    scalars = {**assigned.scalars, "class_gap": state.gap}
    return terms, state, assigned._replace(scalars=scalars)

  return method._replace(init=init, loss=loss, assign=None, learn=None)


def keep_confident(y: Array, least: Array) -> Array:
  """Removes the classes that drop a row; a row that all classes drop stays as it is."""
  kept = jnp.where(y >= least, y, 0.0)
  total = kept.sum(-1, keepdims=True)
  return jnp.where(total > 0, kept / jnp.maximum(total, 1e-30), y)


def entropy(y: Array) -> Array:
  """H(y), f32 [n]."""
  return -(y * jnp.log(jnp.maximum(y, 1e-30))).sum(-1)


def refined(y: Array, multiplier: Array) -> Array:
  """Computes x from y, f32 [n, C]."""
  logits = jnp.log(jnp.maximum(y, 1e-30))
  return jax.nn.softmax(logits - entropy(y)[:, None] * multiplier)


def solve(
  seen: Array, wanted: Array, start: Array, alpha: float
) -> tuple[Array, Array, Array]:
  """Computes `multiplier`, `gap` and `least` of the state from all rows f32 [N, C].

  A step of Newton's method that increases the gap is undone, and the following steps
  are shorter.
  """
  visited = (seen.sum(-1) > 0).astype(jnp.float32)
  counts = visited.sum() * wanted
  rank = jnp.clip(jnp.floor(alpha * counts).astype(jnp.int32), 1, seen.shape[0]) - 1
  column = jnp.broadcast_to(jnp.arange(wanted.shape[0]), seen.shape)
  least = -quantiles.smallest(-seen.reshape(-1), column.reshape(-1), rank)
  y = keep_confident(seen, least)
  height = entropy(y) * visited  # rows not visited yet don't count

  def evaluate(multiplier):
    """The gap f32 [C] and its slope f32 [C, C]."""
    x = refined(y, multiplier) * visited[:, None]
    high = height[:, None] * x
    return x.sum(0) - counts, jnp.diag(high.sum(0)) - high.T @ x

  def worst(gap):
    return jnp.abs(gap).max()

  def step(carry):
    iteration, multiplier, limit, (gap, slope) = carry
    # Adding a constant to all multipliers changes nothing, so the slope is singular.
    # The ridge makes it invertible. The mean of the multipliers stays at 0.
    ridge = 1e-3 * jnp.trace(slope) / wanted.shape[0] + 1e-6
    move = jnp.linalg.solve(slope + ridge * jnp.eye(wanted.shape[0]), gap)
    move = move - move.mean()
    move = move * jnp.minimum(1.0, limit / jnp.abs(move).max())
    new = evaluate(multiplier + move)
    closer = jnp.linalg.norm(new[0]) < jnp.linalg.norm(gap)
    multiplier, current = jax.tree.map(
      lambda new, old: jnp.where(closer, new, old),
      (multiplier + move, new),
      (multiplier, (gap, slope)),
    )
    return iteration + 1, multiplier, limit * jnp.where(closer, 4.0, 0.25), current

  def unfinished(carry):
    iteration, _, _, (gap, _) = carry
    return (iteration < MAX_ITERATIONS) & (worst(gap) > TOLERANCE * visited.sum())

  limit = 2.0 + jnp.abs(start).max()
  first = (jnp.int32(0), start, limit, evaluate(start))
  _, multiplier, _, (gap, _) = jax.lax.while_loop(unfinished, step, first)
  return multiplier, worst(gap) / jnp.maximum(visited.sum(), 1.0), least

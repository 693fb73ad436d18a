"""DARP (Kim et al. 2020, arXiv 2007.08844): pseudo-labels bent to the class frequency.

The predictions y of all unlabelled rows are kept. Every `every` steps they are refined
to the x that is nearest to them while its class counts are what they should be,

  min sum_n (1 / H(y_n)) KL(x_n || y_n)   so that  sum_n x_n = visited rows * pi

(equation 3), pi the labelled class frequency (the authors', too, where the unlabelled
texts are alike; where they are not, theirs is estimated): sure rows, of small entropy
H, move least. Its solution is x_n = softmax(log y_n - H(y_n) nu); the multipliers nu
are found by Newton's method on all classes at once (the authors go class by class),
from those of the last time on. Before that, a class keeps `alpha` times its number of
rows, the surest of it (section 3.3). Rows that are sure, or left to few classes, may
not come to the wanted counts: `class_gap` is how far the worst class is off, as a share
of rows. After the warm-up the method's votes on a text are its refined row.

More than 80 lines: Newton's method with a step that is taken back is a third of them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Method
from ssljax.ops import quantiles
from ssljax.options import Amount, Count, Share
from ssljax.wrappers import recording_forward

Array = jax.Array
# Where all classes have equally many labelled texts.
EVEN = "bends the pseudo-labels to as many of each class"
NEWTON = 30  # iterations at most
CLOSE = 1e-5  # of the rows: a gap that ends them


class State(NamedTuple):
  inner: Any  # the method's
  seen: Array  # f32 [N, C], y; zeros before the first visit
  multiplier: Array  # f32 [C], nu
  gap: Array  # f32 [], of the worst class, as a share of the rows
  least: Array  # f32 [C], below it a class does not keep a row
  wanted: Array  # f32 [C], pi


def make(
  method: Method, warmup: Share = 0.4, every: Count = 10, alpha: Amount = 2.0
) -> Method:
  """Args: `warmup` is a share of the run; the others as above."""
  recording_forward.refuse_several(method.needs)
  recording_forward.refuse_control(method.needs)
  recording_forward.refuse_votes(method.needs)

  def init(sizes):
    counts = jnp.array(sizes.labelled_counts or [1] * sizes.classes, jnp.float32)
    counts = jnp.maximum(counts, 1.0)
    return State(
      method.init(sizes),
      jnp.zeros((sizes.unlabelled, sizes.classes), jnp.float32),
      jnp.zeros(sizes.classes, jnp.float32),
      jnp.zeros((), jnp.float32),
      jnp.zeros(sizes.classes, jnp.float32),
      counts / counts.sum(),
    )

  def loss(forward, batch, state, clock):
    carried = [state]

    def change(said, view, learns):
      if view is not batch.unlabelled.views["weak"] or learns:
        return said
      classes = state.wanted.shape[0]
      p = jax.lax.stop_gradient(jax.nn.softmax(said.logits[:, :classes]))
      now = carried[0]
      now = now._replace(seen=now.seen.at[batch.unlabelled.index].set(p))
      due = (clock.progress >= warmup) & (clock.step % every == 0)
      multiplier, gap, least = jax.lax.cond(
        due,
        lambda s: solved(s.seen, s.wanted, s.multiplier, alpha),
        lambda s: (s.multiplier, s.gap, s.least),
        now,
      )
      carried[0] = now._replace(multiplier=multiplier, gap=gap, least=least)
      bent = refined(kept(p, least), multiplier)
      bent = jnp.where(clock.progress >= warmup, bent, p)
      return recording_forward.told(said, bent)

    heard = recording_forward.Listening(forward, change)
    terms, inner, assigned = method.loss(heard, batch, state.inner, clock)
    state = carried[0]._replace(inner=inner)
    scalars = {**assigned.scalars, "class_gap": state.gap}
    return terms, state, assigned._replace(scalars=scalars)

  return method._replace(init=init, loss=loss, assign=None, learn=None)


def kept(y: Array, least: Array) -> Array:
  """y without the classes that do not keep the row; as it was where none does."""
  some = jnp.where(y >= least, y, 0.0)
  whole = some.sum(-1, keepdims=True)
  return jnp.where(whole > 0, some / jnp.maximum(whole, 1e-30), y)


def entropy(y: Array) -> Array:
  """f32 [n]."""
  return -(y * jnp.log(jnp.maximum(y, 1e-30))).sum(-1)


def refined(y: Array, multiplier: Array) -> Array:
  """x of y, f32 [n, C]."""
  logits = jnp.log(jnp.maximum(y, 1e-30))
  return jax.nn.softmax(logits - entropy(y)[:, None] * multiplier)


def solved(
  seen: Array, wanted: Array, start: Array, alpha: float
) -> tuple[Array, Array, Array]:
  """nu f32 [C], its gap f32 [] and the least shares f32 [C], from all rows f32 [N, C].

  Newton's steps are as long as they have proved right: one that leads farther from the
  counts is taken back, and the next ones are shorter.
  """
  visited = (seen.sum(-1) > 0).astype(jnp.float32)
  counts = visited.sum() * wanted
  rank = jnp.clip(jnp.floor(alpha * counts).astype(jnp.int32), 1, seen.shape[0]) - 1
  of_class = jnp.broadcast_to(jnp.arange(wanted.shape[0]), seen.shape)
  least = -quantiles.smallest(-seen.reshape(-1), of_class.reshape(-1), rank)
  y = kept(seen, least)
  height = entropy(y) * visited  # rows that were not visited do not move

  def at(multiplier):
    """The gap f32 [C] and its slope f32 [C, C]."""
    x = refined(y, multiplier) * visited[:, None]
    high = height[:, None] * x
    return x.sum(0) - counts, jnp.diag(high.sum(0)) - high.T @ x

  def farness(gap):
    return jnp.abs(gap).max()

  def step(carry):
    done, multiplier, most, (gap, slope) = carry
    # Adding the same to all multipliers changes nothing: the ridge makes the slope
    # invertible, and their mean stays 0, which it would leave by the noise of the gap.
    ridge = 1e-3 * jnp.trace(slope) / wanted.shape[0] + 1e-6
    move = jnp.linalg.solve(slope + ridge * jnp.eye(wanted.shape[0]), gap)
    move = move - move.mean()
    move = move * jnp.minimum(1.0, most / jnp.abs(move).max())
    there = at(multiplier + move)
    closer = jnp.linalg.norm(there[0]) < jnp.linalg.norm(gap)
    multiplier, now = jax.tree.map(
      lambda new, old: jnp.where(closer, new, old),
      (multiplier + move, there),
      (multiplier, (gap, slope)),
    )
    return done + 1, multiplier, most * jnp.where(closer, 4.0, 0.25), now

  def goes_on(carry):
    done, _, _, (gap, _) = carry
    return (done < NEWTON) & (farness(gap) > CLOSE * visited.sum())

  most = 2.0 + jnp.abs(start).max()
  first = (jnp.int32(0), start, most, at(start))
  _, multiplier, _, (gap, _) = jax.lax.while_loop(goes_on, step, first)
  return multiplier, farness(gap) / jnp.maximum(visited.sum(), 1.0), least

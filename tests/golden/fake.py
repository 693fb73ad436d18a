"""A model that says what it is told, and a step taken with it."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.batch import Batch, Labelled, Unlabelled
from ssljax.method import Clock, Outputs


class Said(NamedTuple):
  """Logits of one step: f32 [n, C], or [n, H, C] of voters."""

  labelled: np.ndarray
  weak: np.ndarray
  strong: np.ndarray


class Result(NamedTuple):
  totals: dict[str, float]  # scale * mean(weight * loss) of each term
  state: Any
  assigned: Any
  gradient: Any = None


class Model:
  """Says of a view what `said` has under its name; a `Forward` for any method.

  `said["unlabelled.strong"]` is {"logits": f32 [n, C]} and, where a method reads them,
  {"features": f32 [n, D]} and what its heads say by their names. A view that is read
  by the teacher is "teacher.weak"; "unlabelled.weak/vote" is what a pass without
  gradient hears, where that differs, "labelled.weak/alone" what a pass hears that no
  unlabelled text is in. Features are classified by `said["kernel"]`.
  """

  depth = 12

  def __init__(self, said, votes=()):
    self.said, self.votes = said, votes

  def __call__(self, *texts, key, teacher=False, gradient=True):
    alone = not any(name.startswith("unlabelled") for name in texts)
    found = tuple(self._one(name, teacher, gradient, alone) for name in texts)
    return found if len(texts) > 1 else found[0]

  def _one(self, name, teacher, gradient, alone):
    assert not (gradient and name in self.votes), f"{name} only votes"
    name = name.replace("unlabelled", "teacher") if teacher else name
    heard = self.said.get(f"{name}/vote") if not gradient else None
    heard = heard or (self.said.get(f"{name}/alone") if alone else None)
    heard = dict(heard or self.said[name])
    said, features = heard.pop("logits"), heard.pop("features", None)
    if features is None:
      features = jnp.zeros((said.shape[0], 1), jnp.float32)
    found = Outputs(said, features, heard)
    # A teacher, and a pass without gradient, give none.
    return found if gradient and not teacher else jax.lax.stop_gradient(found)

  def classify(self, features):
    return Outputs(features @ self.said["kernel"], features, {})

  def mix(self, a, b, share, layer, key):
    """Logits mixed, and 1 + layer times as large: a stand-in that a test can undo."""
    views = (a,) if isinstance(a, str) else a
    said = jnp.concatenate([self.said[name]["logits"] for name in views])
    share = jnp.broadcast_to(share, said.shape[:1])[:, None]
    mixed = (1.0 + layer) * (share * said + (1.0 - share) * said[b])
    return Outputs(mixed, jnp.zeros_like(mixed), {})


def stepper(method, votes=()):
  """A compiled step: (state, said, label, index, step, progress, epoch) -> Result.

  For a method that reads any views and heads: `said` as `Model` has it. The totals are
  those of the terms; `Result.gradient` is that of their sum with respect to all that
  was said. The views of `votes` may be read without gradient only.
  """
  needs = method.needs

  # Compiled in half of the time, and run a few times.
  @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
  def run(state, said, label, index, rows, clock):
    batch = Batch(
      Labelled({v: f"labelled.{v}" for v in needs.labelled_views}, label, rows),
      Unlabelled({v: f"unlabelled.{v}" for v in needs.views}, index),
    )

    def total(said):
      terms, after, assigned = method.loss(Model(said, votes), batch, state, clock)
      totals = {
        name: jnp.mean(jnp.asarray(term.weight) * term.loss) * term.scale
        for name, term in terms.items()
      }
      return sum(totals.values()), (totals, after, assigned)

    gradient, found = jax.grad(total, has_aux=True)(said)
    return (*found, gradient)

  def take(state, said, label, index, step=0, progress=0.0, epoch=0, rows=None):
    clock = Clock(
      jnp.int32(step),
      jnp.float32(progress),
      jnp.int32(epoch),
      jax.random.fold_in(jax.random.key(5), step),
    )
    as_f32 = lambda a: jnp.asarray(a, jnp.float32)
    rows = np.arange(len(label)) if rows is None else rows
    totals, state, assigned, gradient = run(
      state,
      jax.tree.map(as_f32, said),
      as_f32(label),
      jnp.asarray(index, jnp.int32),
      jnp.asarray(rows, jnp.int32),
      clock,
    )
    totals = {name: float(total) for name, total in totals.items()}
    return Result(totals, state, assigned, gradient)

  return take


def taker(method, voters: bool = False):
  """`stepper` for the three common views: (state, Said, label, index, step, epoch)."""
  step_with = stepper(method, votes=("unlabelled.weak",))

  def spoken(logits):
    return (
      {"logits": logits.mean(1), "voters": logits} if voters else {"logits": logits}
    )

  def take(state, said, label, index, step=0, epoch=0) -> Result:
    views = {
      "labelled.weak": spoken(said.labelled),
      "unlabelled.weak": spoken(said.weak),
      "unlabelled.strong": spoken(said.strong),
    }
    return step_with(state, views, label, index, step, epoch=epoch)

  return take


def speech(random, classes, labelled=6, unlabelled=24, spread=2.0):
  """What `Model` says of the three common views and of the teacher's weak one."""
  sizes = {"labelled.weak": labelled, "unlabelled.weak": unlabelled}
  sizes |= {"unlabelled.strong": unlabelled, "teacher.weak": unlabelled}
  return {
    name: {"logits": logits(random, size, classes, spread=spread)}
    for name, size in sizes.items()
  }


def logits(random, *shape, spread=2.0):
  """Random logits in steps of 1/4, so that ties are common."""
  return np.round(random.normal(size=shape) * spread * 4) / 4


def labels(random, count: int, classes: int, width: int | None = None):
  """One-hot labels [count, width]."""
  return np.eye(width or classes)[random.integers(classes, size=count)]


def softmax(row) -> list[float]:
  powers = [np.exp(float(z) - float(max(row))) for z in row]
  return [power / sum(powers) for power in powers]


def surprise(row, target) -> float:
  """CE(target, softmax(row))."""
  top = float(max(row))
  whole = top + np.log(sum(np.exp(float(z) - top) for z in row))
  return sum(float(t) * (whole - float(z)) for t, z in zip(target, row, strict=True))


def supervised(said: Said, label) -> float:
  """Mean cross-entropy of the labelled texts."""
  return mean_surprise(said.labelled, label)


def mean_surprise(rows, targets) -> float:
  pairs = list(zip(rows, targets, strict=True))
  return sum(surprise(*pair) for pair in pairs) / len(pairs)


def slope(row, target) -> list[float]:
  """The gradient of `surprise` with respect to the logits; targets sum to 1."""
  return [p - float(t) for p, t in zip(softmax(row), target, strict=True)]


def first_largest(row) -> int:
  return max(range(len(row)), key=lambda c: (row[c], -c))


def one_hot(c: int, classes: int) -> list[float]:
  return [1.0 if k == c else 0.0 for k in range(classes)]


def pseudo_margins(row) -> list[float]:
  """Of each class: its logit less the largest of the others."""
  return [
    float(row[c]) - max(float(row[i]) for i in range(len(row)) if i != c)
    for c in range(len(row))
  ]


def quantile(values: list[float], share: float) -> float:
  """Linear interpolation between order statistics."""
  ordered = sorted(values)
  place = share * (len(ordered) - 1)
  low = int(place)
  high = min(low + 1, len(ordered) - 1)
  return ordered[low] + (place - low) * (ordered[high] - ordered[low])

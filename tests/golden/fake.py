"""A fake model with given outputs, a step with it, and plain NumPy helpers."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.batch import Batch, Labelled, Unlabelled
from ssljax.method import Clock, Outputs


class Logits(NamedTuple):
  """Logits of one step: f32 [n, C], or [n, H, C] for voters."""

  labelled: np.ndarray
  weak: np.ndarray
  strong: np.ndarray


class Result(NamedTuple):
  totals: dict[str, float]  # scale * mean(weight * loss) of each term
  state: Any
  assigned: Any
  gradient: Any = None


class Model:
  """A `Forward` with given outputs, for any method.

  `outputs["unlabelled.strong"]` is {"logits": f32 [n, C]} and, if the method reads
  them, {"features": f32 [n, D]} and the outputs of its heads by name. "teacher.weak" is
  the teacher's view. "unlabelled.weak/vote" is for passes without gradient, if it
  differs, and "labelled.weak/alone" for passes without any unlabelled text. Features
  are classified by `outputs["kernel"]`.
  """

  depth = 12

  def __init__(self, outputs, votes=()):
    self.outputs, self.votes = outputs, votes

  def __call__(self, *texts, key, teacher=False, gradient=True):
    alone = not any(name.startswith("unlabelled") for name in texts)
    outputs = tuple(self._view(name, teacher, gradient, alone) for name in texts)
    return outputs if len(texts) > 1 else outputs[0]

  def _view(self, name, teacher, gradient, alone):
    assert not (gradient and name in self.votes), f"{name} must have no gradient"
    name = name.replace("unlabelled", "teacher") if teacher else name
    heads = self.outputs.get(f"{name}/vote") if not gradient else None
    heads = heads or (self.outputs.get(f"{name}/alone") if alone else None)
    heads = dict(heads or self.outputs[name])
    logits, features = heads.pop("logits"), heads.pop("features", None)
    if features is None:
      features = jnp.zeros((logits.shape[0], 1), jnp.float32)
    outputs = Outputs(logits, features, heads)
    return outputs if gradient and not teacher else jax.lax.stop_gradient(outputs)

  def classify(self, features):
    return Outputs(features @ self.outputs["kernel"], features, {})

  def mix(self, a, b, share, layer, key):
    """Mixes logits and scales them by 1 + layer, which tests can invert."""
    views = (a,) if isinstance(a, str) else a
    logits = jnp.concatenate([self.outputs[name]["logits"] for name in views])
    share = jnp.broadcast_to(share, logits.shape[:1])[:, None]
    mixed = (1.0 + layer) * (share * logits + (1.0 - share) * logits[b])
    return Outputs(mixed, jnp.zeros_like(mixed), {})


def stepper(method, votes=()):
  """A compiled step: (state, outputs, label, index, step, progress, epoch) -> Result.

  For methods with any views and heads; `outputs` as in `Model`. `Result.gradient` is
  that of the sum of all terms with respect to `outputs`. The views in `votes` may be
  read without gradient only.
  """
  needs = method.needs

  # Halves the time for compilation; it runs a few times only.
  @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
  def run(state, outputs, label, index, rows, clock):
    batch = Batch(
      Labelled({v: f"labelled.{v}" for v in needs.labelled_views}, label, rows),
      Unlabelled({v: f"unlabelled.{v}" for v in needs.views}, index),
    )

    def total(outputs):
      terms, after, assigned = method.loss(Model(outputs, votes), batch, state, clock)
      totals = {
        name: jnp.mean(jnp.asarray(term.weight) * term.loss) * term.scale
        for name, term in terms.items()
      }
      return sum(totals.values()), (totals, after, assigned)

    gradient, results = jax.grad(total, has_aux=True)(outputs)
    return (*results, gradient)

  def take_step(
    state, outputs, label, index, step=0, progress=0.0, epoch=0, rows=None, steps=100
  ) -> Result:
    clock = Clock(
      jnp.int32(step),
      jnp.float32(progress),
      jnp.int32(epoch),
      jax.random.fold_in(jax.random.key(5), step),
      jnp.int32(steps),
    )
    as_f32 = lambda a: jnp.asarray(a, jnp.float32)
    rows = np.arange(len(label)) if rows is None else rows
    totals, state, assigned, gradient = run(
      state,
      jax.tree.map(as_f32, outputs),
      as_f32(label),
      jnp.asarray(index, jnp.int32),
      jnp.asarray(rows, jnp.int32),
      clock,
    )
    totals = {name: float(total) for name, total in totals.items()}
    return Result(totals, state, assigned, gradient)

  return take_step


def simple_stepper(method, voters: bool = False):
  """`stepper` for the three common views.

  Takes (state, Logits, label, index, step, epoch).
  """
  take_step = stepper(method, votes=("unlabelled.weak",))

  def heads(logits):
    if voters:
      return {"logits": logits.mean(1), "voters": logits}
    return {"logits": logits}

  def take_simple_step(state, logits, label, index, step=0, epoch=0) -> Result:
    outputs = {
      "labelled.weak": heads(logits.labelled),
      "unlabelled.weak": heads(logits.weak),
      "unlabelled.strong": heads(logits.strong),
    }
    return take_step(state, outputs, label, index, step, epoch=epoch)

  return take_simple_step


def random_outputs(random, classes, labelled=6, unlabelled=24, spread=2.0):
  """`Model.outputs` for the three common views and the teacher's weak one."""
  sizes = {"labelled.weak": labelled, "unlabelled.weak": unlabelled}
  sizes |= {"unlabelled.strong": unlabelled, "teacher.weak": unlabelled}
  return {
    name: {"logits": random_logits(random, size, classes, spread=spread)}
    for name, size in sizes.items()
  }


def random_logits(random, *shape, spread=2.0):
  """Random multiples of 1/4, so that ties are common."""
  return np.round(random.normal(size=shape) * spread * 4) / 4


def random_labels(random, count: int, classes: int, width: int | None = None):
  """One-hot labels [count, width]."""
  return np.eye(width or classes)[random.integers(classes, size=count)]


def softmax(row) -> list[float]:
  powers = [np.exp(float(z) - float(max(row))) for z in row]
  return [power / sum(powers) for power in powers]


def cross_entropy(row, target) -> float:
  """H(target, softmax(row))."""
  top = float(max(row))
  log_sum = top + np.log(sum(np.exp(float(z) - top) for z in row))
  return sum(float(t) * (log_sum - float(z)) for t, z in zip(target, row, strict=True))


def supervised_loss(logits: Logits, label) -> float:
  """Mean cross-entropy of the labelled texts."""
  return mean_cross_entropy(logits.labelled, label)


def mean_cross_entropy(rows, targets) -> float:
  pairs = list(zip(rows, targets, strict=True))
  return sum(cross_entropy(*pair) for pair in pairs) / len(pairs)


def ce_gradient(row, target) -> list[float]:
  """With respect to the logits; targets sum to 1."""
  return [p - float(t) for p, t in zip(softmax(row), target, strict=True)]


def argmax(row) -> int:
  """The first one of equal values."""
  return max(range(len(row)), key=lambda c: (row[c], -c))


def one_hot(c: int, classes: int) -> list[float]:
  return [1.0 if k == c else 0.0 for k in range(classes)]


def pseudo_margins(row) -> list[float]:
  """For each class, its logit minus the largest other one."""
  return [
    float(row[c]) - max(float(row[i]) for i in range(len(row)) if i != c)
    for c in range(len(row))
  ]


def quantile(values: list[float], share: float) -> float:
  """Linear interpolation between order statistics."""
  ordered = sorted(values)
  position = share * (len(ordered) - 1)
  low = int(position)
  high = min(low + 1, len(ordered) - 1)
  return ordered[low] + (position - low) * (ordered[high] - ordered[low])

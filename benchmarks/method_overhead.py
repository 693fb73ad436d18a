"""Measures the time of each method's own arithmetic, without the encoder.

  python -m benchmarks.method_overhead
  python -m benchmarks.method_overhead --methods=multimatch,comatch --texts=100000

A method gets the logits and features of a fake model, for U = 48 unlabelled texts of
N = 1,000,000 and C = 2 and 15 classes. Timed are value and gradient of its loss with a
donated state, as in the middle of a run of 1,300 steps in which all rows have been
visited. `fixmatch/darp` is a method in a wrapper.

The median is over steps, the mean over whole epochs, some of whose steps read all rows
(at an epoch's end MultiMatch computes its cut-offs from all margins, and DARP refines
all predictions every ten steps). Tables must be written in place: the last column is
the ratio of the medians for N and N / 100, which would show a copy of a table. `--step`
is the time of a whole step (benchmarks/step.py), to report the mean as a share of it.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from ssljax import methods, wrappers
from ssljax.batch import Batch, Labelled, Unlabelled
from ssljax.method import Clock, Outputs, Sizes

B, U, D, LABELLED = 16, 48, 384, 200
EPOCH, RUN = 13, 1300  # steps
SKIPPED = ("vat",)  # its arithmetic is passes through the encoder


class Model:
  """A `Forward` with given outputs, and the heads in `needs`.

  A view is (name, number of texts).
  """

  depth = 6

  def __init__(self, needs, logits, features):
    self._needs, self._logits, self._features = needs, logits, features

  def __call__(self, *texts, key, teacher=False, gradient=True):
    outputs = tuple(self._outputs(count) for _, count in texts)
    if teacher or not gradient:
      outputs = jax.lax.stop_gradient(outputs)
    return outputs if len(texts) > 1 else outputs[0]

  def _outputs(self, count: int) -> Outputs:
    logits, features = self._logits[:count], self._features[:count]
    heads = {}
    for name, head in self._needs.heads.items():
      if head.kind == "classifier":
        heads[name] = jnp.stack([logits] * head.count, axis=1)
      else:
        width = D if head.kind == "projection" else logits.shape[-1]
        heads[name] = features[:, : head.width or width]
    return Outputs(logits, features, heads)

  def classify(self, features):
    return Outputs(features[:, : self._logits.shape[-1]], features, {})


def prepare(case: str, classes: int, rows: int):
  """Returns (jitted step with donated state, initial state, step -> other arguments).

  Args:
    case: a method, "marginmatch:virtual_class" or "fixmatch/darp".
  """
  case, _, wrapper = case.partition("/")
  name, _, variant = case.partition(":")
  keywords = {"variant": variant} if variant else {}
  method = methods.make({"name": name, **keywords})
  method = wrappers.wrap(method, {"name": wrapper})
  needs, width = method.needs, classes + method.needs.virtual_classes
  sizes = Sizes(classes, LABELLED, rows, B, U, RUN, EPOCH, (), D)
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(U, width)), jnp.float32)
  features = jnp.asarray(rng.normal(size=(U, D)), jnp.float32)
  label = jnp.asarray(np.eye(width)[rng.integers(0, classes, B)], jnp.float32)

  def step(state, logits, features, index, clock):
    batch = Batch(
      Labelled({v: (v, B) for v in needs.labelled_views}, label, jnp.arange(B)),
      Unlabelled({v: (v, U) for v in needs.views}, index),
    )

    def loss(logits, features):
      terms, after, _ = method.loss(Model(needs, logits, features), batch, state, clock)
      total = sum((t.scale * jnp.mean(t.weight * t.loss)) for t in terms.values())
      return total, after

    gradient, after = jax.grad(loss, (0, 1), has_aux=True)(logits, features)
    return after, gradient

  def arguments(t: int):
    t = t + RUN // 2
    epoch, progress = jnp.int32(t // EPOCH), jnp.float32(t / RUN)
    clock = Clock(jnp.int32(t), progress, epoch, jax.random.key(t), RUN)
    index = jnp.asarray(rng.choice(rows, U, replace=False), jnp.int32)
    return jax.block_until_ready((logits, features, index, clock))

  state = fill_tables(method.init(sizes), rows, classes, rng)
  return jax.jit(step, donate_argnums=0), state, arguments


def fill_tables(state, rows: int, classes: int, rng: np.random.Generator):
  """Fills all rows of the tables in the state."""

  def fill(path, leaf):
    if rows not in leaf.shape:
      return jnp.copy(leaf)  # donated, so not shared
    if leaf.dtype == jnp.int32:  # votes, and numbers of visits
      return jnp.asarray(rng.integers(classes, size=leaf.shape), jnp.int32)
    values = jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)
    return jax.nn.softmax(values) if path[-1].name == "seen" else values

  return jax.tree_util.tree_map_with_path(fill, state)


def all_cases() -> list[str]:
  """Methods except SKIPPED, MarginMatch's other variant, and wrappers."""
  names = [name for name in methods.names() if name not in SKIPPED]
  wrapped = [f"fixmatch/{name}" for name in wrappers.names()]
  return [*names, "marginmatch:virtual_class", *wrapped]


def measure(case: str, classes: int, rows: int, epochs: int) -> tuple[float, float]:
  """Median and mean over the steps of some epochs, after one to compile."""
  run, state, arguments = prepare(case, classes, rows)
  times = []
  for t in range(EPOCH * (1 + epochs)):
    inputs = arguments(t)
    start = time.perf_counter()
    state, _ = jax.block_until_ready(run(state, *inputs))
    times.append(time.perf_counter() - start)
  return statistics.median(times[EPOCH:]), statistics.mean(times[EPOCH:])


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--methods", default="", help="default: all")
  parser.add_argument("--texts", type=int, default=1_000_000)
  parser.add_argument("--epochs", type=int, default=4)
  parser.add_argument("--step", type=float, default=0.0, help="seconds per train step")
  options = parser.parse_args()
  cases = options.methods.split(",") if options.methods else all_cases()
  print(
    "method                     classes    median      mean, ms  of a step  over N/100"
  )
  for case in cases:
    for classes in (2, 15):
      median, mean = measure(case, classes, options.texts, options.epochs)
      small, _ = measure(case, classes, options.texts // 100, options.epochs)
      share = f"{mean / options.step:10.2%}" if options.step else " " * 10
      times = f"{1e3 * median:9.3f} {1e3 * mean:13.3f}"
      print(f"{case:26} {classes:7} {times} {share} {median / small:11.2f}", flush=True)


if __name__ == "__main__":
  main()

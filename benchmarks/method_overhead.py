"""The time of each method's own arithmetic, apart from the encoder.

  python -m benchmarks.method_overhead
  python -m benchmarks.method_overhead --methods=multimatch,comatch --texts=100000

A method is given logits and features of a model that does nothing, U = 48 unlabelled
texts of N = 1,000,000, C = 2 and 15 classes, and takes value and gradient of its loss
with its state donated, as in training. Tables over all texts must be written in place:
the last column is the time over that at N / 100, in which a copy of a table would show.
`--step` is what a step takes, to be a share of: see benchmarks/step.py.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from ssljax import methods
from ssljax.method import Batch, Clock, Labelled, Outputs, Sizes, Unlabelled

B, U, D, LABELLED = 16, 48, 384, 200
MIXED_INSIDE = ("vat",)  # whose arithmetic is passes through the encoder


class Model:
  """Says of any view what it was made with; heads of the kinds that `needs` names."""

  depth = 6

  def __init__(self, needs, logits, features):
    self._needs, self._logits, self._features = needs, logits, features

  def __call__(self, *texts, key, teacher=False, gradient=True):
    found = tuple(self._one(many) for many in texts)
    if teacher or not gradient:
      found = jax.lax.stop_gradient(found)
    return found if len(texts) > 1 else found[0]

  def _one(self, many: int) -> Outputs:
    logits, features = self._logits[:many], self._features[:many]
    heads = {}
    for name, head in self._needs.heads.items():
      if head.kind == "classifier":
        heads[name] = jnp.stack([logits] * head.count, axis=1)
      else:
        heads[name] = features[:, : head.width or D]
    return Outputs(logits, features, heads)

  def classify(self, features):
    return Outputs(features[:, : self._logits.shape[-1]], features, {})


def prepared(name: str, classes: int, rows: int):
  """(jitted step with its state donated, first state, index -> its other arguments)."""
  method = methods.make({"name": name})
  needs, width = method.needs, classes + method.needs.virtual_classes
  sizes = Sizes(classes, LABELLED, rows, B, U, 100_000, 13, (), D)
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(U, width)), jnp.float32)
  features = jnp.asarray(rng.normal(size=(U, D)), jnp.float32)
  label = jnp.asarray(np.eye(width)[rng.integers(0, classes, B)], jnp.float32)

  def step(state, logits, features, index, clock):
    batch = Batch(
      Labelled(dict.fromkeys(needs.labelled_views, B), label, jnp.arange(B)),
      Unlabelled(dict.fromkeys(needs.views, U), index),
    )

    def loss(logits, features):
      terms, after, _ = method.loss(Model(needs, logits, features), batch, state, clock)
      total = sum((t.scale * jnp.mean(t.weight * t.loss)) for t in terms.values())
      return total, after

    gradient, after = jax.grad(loss, (0, 1), has_aux=True)(logits, features)
    return after, gradient

  def arguments(t: int):
    # Never the last step of an epoch, in which MultiMatch sorts all margins.
    clock = Clock(jnp.int32(t % 12), jnp.float32(0.5), jnp.int32(1), jax.random.key(t))
    index = jnp.asarray(rng.choice(rows, U, replace=False), jnp.int32)
    return jax.block_until_ready((logits, features, index, clock))

  return jax.jit(step, donate_argnums=0), method.init(sizes), arguments


def seconds(name: str, classes: int, rows: int, calls: int) -> float:
  """Median over calls, after one that compiles."""
  run, state, arguments = prepared(name, classes, rows)
  times = []
  for t in range(calls + 1):
    given = arguments(t)
    began = time.perf_counter()
    state, _ = jax.block_until_ready(run(state, *given))
    times.append(time.perf_counter() - began)
  return statistics.median(times[1:])


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--methods", default="", help="default: all")
  parser.add_argument("--texts", type=int, default=1_000_000)
  parser.add_argument("--calls", type=int, default=50)
  parser.add_argument("--step", type=float, default=0.0, help="seconds of a whole step")
  options = parser.parse_args()
  names = options.methods.split(",") if options.methods else methods.names()
  print("method                 classes        ms   of a step   over N / 100")
  for name in (name for name in names if name not in MIXED_INSIDE):
    for classes in (2, 15):
      whole = seconds(name, classes, options.texts, options.calls)
      few = seconds(name, classes, options.texts // 100, options.calls)
      share = f"{whole / options.step:10.2%}" if options.step else " " * 10
      print(f"{name:22} {classes:7} {1e3 * whole:9.3f}  {share} {whole / few:13.2f}")


if __name__ == "__main__":
  main()

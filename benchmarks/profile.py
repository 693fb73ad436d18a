"""Shows which parts of a train step take the time on a CPU, and the bound of its time.

  python -m benchmarks.profile --data=FOLDER
  python -m benchmarks.profile --data=FOLDER --dtype=bfloat16 --output=profile.json

It runs the FixMatch step. The profiler of JAX times each instruction of the compiled
step; the names in the program say which part of the model an instruction belongs to. An
instruction that XLA has fused from several parts counts for the one that it is named
after. Times are summed over the threads, and the shares refer to this sum. `host` is
the time that one core needs to build the batch; a run does this in the background.

The bound is the time that the step would take if it consisted only of its matrix
products, each at the rate at which XLA computes it alone.
"""

import argparse
import collections
import json
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import step as steps
from ssljax.models import read_config

# The first pattern that is found in the name of an instruction gives its part.
PARTS = {
  "dropout": r"dropout|rng_bit_generator|threefry|random_bits",
  "products of the layers": r"layers/(up|down|attention_out|attention/\w+)/product",
  "products of attention": r"layers/attention/product",
  "softmax, mask, layout of attention": r"layers/attention/",
  "norms": r"norm/",
  "GELU and residuals": r"layers/(add|mul|erf|add_any)",
  "gradients of biases": r"layers/\w+/(reduce_sum|transpose)",
  "copies for the scan": r"dynamic_(update_)?(slice|index)",
  "embeddings and their gradient": r"embeddings/|scatter",
  "pooling and heads": r"Classifier",
  "optimizer and the rest": r"",
}
DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f64": jnp.float64}
LINE = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\w+)\[([\d,]*)\]")
NAME = re.compile(r'op_name="([^"]*)"')
DOT = re.compile(r" dot\(%?([\w.\-]+), %?([\w.\-]+)\)")


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--data", required=True)
  parser.add_argument("--encoder", default=steps.MINILM)
  parser.add_argument("--method", default="fixmatch")
  parser.add_argument("--dtype", default="float32")
  parser.add_argument("--max_length", type=int, default=512)
  parser.add_argument("--batch", type=int, default=16)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--output", type=Path)
  options = parser.parse_args()
  job = steps.make_job(options, {"dtype": options.dtype})
  steps.describe("rows", job)
  batches = [job.put(*job.batches.batch(t)) for t in range(options.rounds)]
  state = job.first()
  program = job.train_step.lower(state, *batches[0]).compile().as_text()
  state, _ = job.train_step(state, *batches[0])  # compiles
  seconds = []
  with tempfile.TemporaryDirectory() as folder:
    jax.block_until_ready(state)
    with jax.profiler.trace(folder):
      for batch in batches:
        began = time.perf_counter()
        state, _ = jax.block_until_ready(job.train_step(state, *batch))
        seconds.append(time.perf_counter() - began)
    parts = by_part(events(Path(folder)), program)
  depth = read_config(job.data.encoder).num_hidden_layers
  began = time.perf_counter()
  for t in range(100, 120):
    job.batches.batch(t)
  host = (time.perf_counter() - began) / 20
  flops, bound = product_bound(program, depth)
  step = statistics.median(seconds)
  total = sum(parts.values())
  shares = {name: spent / total for name, spent in parts.most_common()}
  print(f"step: {step:.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")
  for name, share in shares.items():
    print(f"{share:6.1%}  {name}")
  print(f"host: {host * 1000:.0f} ms per batch")
  print(f"bound: {bound:.2f} s for {flops / 1e9:.0f} GFLOP of matrix products")
  if options.output:
    result = {"step": seconds, "shares": shares, "host": host}
    options.output.write_text(json.dumps(result | {"bound": bound, "flops": flops}))


def events(folder: Path) -> Iterator[tuple[str, float]]:
  """Yields the (instruction, nanoseconds) that the threads of XLA ran."""
  (file,) = folder.glob("**/*.xplane.pb")
  for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
    for line in plane.lines:
      if line.name.startswith("tf_XLA"):
        for event in line.events:
          yield event.name, event.duration_ns


def by_part(events: Iterator[tuple[str, float]], program: str) -> collections.Counter:
  """Sums the time of instructions by PARTS; ignores what isn't an instruction."""
  names = {}
  for line in program.splitlines():
    if match := LINE.match(line):
      found = NAME.search(line)
      name = found[1] if found else ""
      if DOT.search(line) or "__ynn_fusion" in line:
        name = re.sub(r"/(dot_general|transpose)$", "/product", name)
      names[match[1]] = name
  total: collections.Counter = collections.Counter()
  for instruction, spent in events:
    if instruction in names:
      name = names[instruction]
      total[next(part for part, p in PARTS.items() if re.search(p, name))] += spent
  return total


def product_bound(program: str, layers: int) -> tuple[float, float]:
  """Returns the FLOPs of all matrix products of a step, and the seconds they take.

  Products in the loop over the layers count `layers` times.
  """
  shapes, products = {}, collections.Counter()
  for line in program.splitlines():
    if not (match := LINE.match(line)):
      continue
    shapes[match[1]] = (match[2], tuple(map(int, filter(None, match[3].split(",")))))
    if dot := DOT.search(line):
      axes = [
        tuple(map(int, found[1].split(","))) if found else ()
        for found in (
          re.search(rf"{side}_{kind}_dims={{([\d,]+)}}", line)
          for kind in ("contracting", "batch")
          for side in ("lhs", "rhs")
        )
      ]
      operands = shapes[dot[1]], shapes[dot[2]]
      count = layers if "while/body" in line else 1
      products[operands, tuple(axes)] += count
  flops = seconds = 0.0
  for (operands, axes), count in products.items():
    left, right = (jnp.ones(shape, DTYPES[kind]) for kind, shape in operands)
    dims = (axes[0], axes[1]), (axes[2], axes[3])
    product = jax.jit(lambda a, b, dims=dims: jax.lax.dot_general(a, b, dims))
    seconds += count * median_seconds(product, left, right)
    inner = np.prod([left.shape[axis] for axis in axes[0]])
    flops += count * 2 * product(left, right).size * inner
  return flops, seconds


def median_seconds(function, *arguments) -> float:
  """The median seconds of a call, after the first one."""
  jax.block_until_ready(function(*arguments))
  times = []
  for _ in range(7):
    began = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    times.append(time.perf_counter() - began)
  return statistics.median(times)


if __name__ == "__main__":
  main()

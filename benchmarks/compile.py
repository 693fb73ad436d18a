"""Times the first step of FixMatch, cold and warm, each in a new process.

  python -m benchmarks.compile --json=compile.json
  python -m benchmarks.compile --encoders=deberta-v3-base --batch=2

Weights are random and the texts have no meaning, so only the sizes of the encoders are
needed. `cold` starts with an empty compilation cache, `warm` with the cache that `cold`
filled. The columns are seconds to trace the step, to lower it to StableHLO, to compile
or load it, and to run it once; their sum, and the CPU seconds of all four, which hardly
depend on what else the machine does; then MiB: the compiler's count of all buffers of
the step, and the peak of the process (resident memory), which includes the compiler.

The batch is small, so that the step fits into memory. This doesn't change the program:
the sizes of its arrays do not determine how long it takes to compile.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ssljax.runtime.json_files import write_json

# The largest batch, of labelled texts, that takes up to about 12 GiB.
BATCHES = {"minilm": 16, "deberta-v3-base": 4, "deberta-v3-large": 1}
MIB = 2**20


def first_step(name: str, batch: int, dtype: str, remat: bool) -> dict[str, Any]:
  """Compiles and runs one step; returns seconds and MiB."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from benchmarks import synthetic
  from benchmarks.architectures import ENCODERS

  noise = 0.02 * np.random.default_rng(0).standard_normal(1 << 20, np.float32)

  def fill(path, leaf):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return jax.device_put(jax.random.key(0, impl="rbg"), leaf.sharding)
    value = np.zeros(leaf.shape, leaf.dtype)
    if path[1:2] == (jax.tree_util.GetAttrKey("params"),):
      value = np.resize(noise, leaf.shape)
    elif path[-1] == jax.tree_util.GetAttrKey("segment"):
      value += 1
    return jax.device_put(value, leaf.sharding)

  clocks = lambda: (time.perf_counter(), time.process_time())
  job = synthetic.make(ENCODERS[name], batch=batch, dtype=dtype, remat=remat)
  shapes = (job.state, *job.shapes(0))
  times = [clocks()]
  traced = job.step.trace(*shapes)
  times.append(clocks())
  lowered = traced.lower()
  times.append(clocks())
  compiled = lowered.compile()
  times.append(clocks())
  arguments = jax.tree_util.tree_map_with_path(fill, shapes)
  jax.block_until_ready(arguments)
  began = clocks()
  _, metrics = compiled(*arguments)
  loss = float(metrics["loss"])
  spans = np.concatenate([np.diff(times, axis=0), np.subtract([clocks()], [began])])
  phases = ("trace", "lower", "compile", "run")
  memory = compiled.memory_analysis()
  total = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
  )
  assert jnp.isfinite(loss), loss
  return {
    "parameters": sum(leaf.size for leaf in jax.tree.leaves(job.state.params)),
    "seconds": dict(zip(phases, spans[:, 0].tolist(), strict=True)),
    "cpu_seconds": dict(zip(phases, spans[:, 1].tolist(), strict=True)),
    "compiler_mib": total / MIB,
    "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--encoders", default=",".join(BATCHES))
  parser.add_argument("--batch", type=int, default=0, help="labelled texts")
  parser.add_argument("--dtype", default="float32")
  parser.add_argument("--remat", action="store_true")
  parser.add_argument("--json", type=Path)
  parser.add_argument("--child", help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.child:
    line = first_step(options.child, options.batch, options.dtype, options.remat)
    print(json.dumps(line))
    return
  print(
    "encoder           batch  cache   trace  lower  compile    run    sum    CPU"
    "  compiler, MiB  peak RSS, MiB"
  )
  lines = []
  for name in options.encoders.split(","):
    batch = options.batch or BATCHES.get(name, 1)
    with tempfile.TemporaryDirectory() as folder:
      for cache in ("cold", "warm"):
        command = [sys.executable, "-m", "benchmarks.compile", f"--child={name}"]
        command += [f"--batch={batch}", f"--dtype={options.dtype}"]
        command += ["--remat"] * options.remat
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": folder}
        done = subprocess.run(
          command, env=environment, stdout=subprocess.PIPE, check=True
        )
        line = json.loads(done.stdout)
        settings = {"dtype": options.dtype, "remat": options.remat}
        lines.append(
          {"encoder": name, "batch": batch, "cache": cache} | settings | line
        )
        trace, lower, compile_, run = line["seconds"].values()
        total = trace + lower + compile_ + run
        print(
          f"{name:17} {batch:5}  {cache}  {trace:6.1f} {lower:6.1f} {compile_:8.1f}"
          f" {run:6.1f} {total:6.1f} {sum(line['cpu_seconds'].values()):6.1f}"
          f" {line['compiler_mib']:14.0f}"
          f" {line['peak_rss_mib']:14.0f}",
          flush=True,
        )
  if options.json:
    write_json(options.json, lines)


if __name__ == "__main__":
  main()

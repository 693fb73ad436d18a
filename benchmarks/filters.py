"""Prints how many pseudo-labels each method uses in a run, and how right they are.

  python -m benchmarks.filters
  python -m benchmarks.filters --methods=multimatch,freematch --preset=published

The logits are simulated, see `ssljax/testing/simulated.py`. For the last fifth of the
run, the table has

* share: mean weight of the pseudo-labels, where weights above 1 count as 1.
* purity: accuracy of the labels that count, weighted; beside it the accuracy of all.
* corr: correlation of weight and correctness.
"""

import argparse

from ssljax import methods
from ssljax.testing import simulated

STEPS, POOLS = (300, 1250), (4_000, 78_000)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--methods", help="names with commas; default: all that filter")
  parser.add_argument("--preset", default="", choices=("", "published"))
  options = parser.parse_args()
  names = options.methods.split(",") if options.methods else filtering()
  print("method                steps   pool  level   share  purity     all    corr")
  for name in names:
    config = methods.complete({"name": name}, options.preset)
    method = methods.make(config)
    for steps in STEPS:
      for pool in POOLS:
        simulate = simulated.simulator(method, steps, pool)
        for level, value in simulated.LEVELS.items():
          s = simulate(value)
          print(
            f"{name:21} {steps:5} {pool:6}  {level:6} {s.share:6.2f} {s.purity:7.2f}"
            f" {s.accuracy:7.2f} {s.correlation:7.2f}",
            flush=True,
          )


def filtering() -> list[str]:
  """The names of all methods with a filter."""
  return [
    name for name in methods.names() if methods.make({"name": name}).needs.filters
  ]


if __name__ == "__main__":
  main()

"""Seconds that intervals of all metrics and thresholds of a test set take.

  python -m benchmarks.evaluation --rows=10000 --classes=2

Random logits; 1,000 resamples. The aim is under 5 seconds for 10,000 rows.
"""

import argparse
import statistics
import time

import numpy as np

from ssljax.evals import evaluation
from ssljax.evals.evaluation import Scored


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--rows", type=int, default=10_000)
  parser.add_argument("--classes", type=int, default=2)
  parser.add_argument("--rounds", type=int, default=5)
  options = parser.parse_args()
  random = np.random.default_rng(0)
  label = random.integers(0, options.classes, options.rows)
  logits = random.normal(size=(options.rows, options.classes))
  logits[np.arange(options.rows), label] += 1
  part = Scored(logits.astype(np.float32), label)
  decision = evaluation.decide(part)
  for name, work in (
    ("metrics", lambda: evaluation.of_set(part, decision)),
    ("thresholds", lambda: evaluation.thresholds(part, decision)),
  ):
    seconds = []
    for _ in range(options.rounds):
      began = time.perf_counter()
      work()
      seconds.append(time.perf_counter() - began)
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    print(f"{name}: {statistics.median(seconds):.2f} s ({spread})")


if __name__ == "__main__":
  main()

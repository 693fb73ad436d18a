"""Measures how long the metrics and thresholds of a test set take, with intervals.

  python -m benchmarks.evaluation --rows=10000 --classes=2

Uses random logits and 1,000 resamples. The aim is below 5 seconds for 10,000 rows.
"""

import argparse
import statistics
import time

import numpy as np

from ssljax.config import KEYS
from ssljax.evals import decisions, evaluation
from ssljax.evals.scored import ScoredTexts


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
  texts = ScoredTexts(logits.astype(np.float32), label)
  rule = decisions.fit_rule(texts, KEYS["aims"].default)
  for name, function in (
    ("metrics", evaluation.set_metrics),
    ("thresholds", evaluation.threshold_metrics),
  ):
    seconds = []
    for _ in range(options.rounds):
      start = time.perf_counter()
      function(texts, rule)
      seconds.append(time.perf_counter() - start)
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    print(f"{name}: {statistics.median(seconds):.2f} s ({spread})")


if __name__ == "__main__":
  main()

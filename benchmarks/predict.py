"""Compares rows per second with a torch `transformers` pipeline, tokenising included.

  python -m ssljax.export --workdir=DIR --output=FOLDER      # a run with head=hf
  python -m benchmarks.predict --model=FOLDER --data=FILE

The pipeline gets the texts sorted by length and its best batch size of BATCH_SIZES.
Rounds alternate between both, so that they meet the same noise. If scores differ by
more than 1e-4, the exit code is 1. Needs the extra `parity` (torch).
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from ssljax import SafetyClassifier
from ssljax.data.records.read import read_texts
from ssljax.errors import UserError

BATCH_SIZES = (4, 8, 16, 32, 64)
TOLERANCE = 1e-4
TRIAL = 400  # texts with which the batch size is chosen


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument("--model", required=True)
  parser.add_argument("--data", required=True)
  parser.add_argument("--rows", type=int, default=2000)
  parser.add_argument("--rounds", type=int, default=5)
  options = parser.parse_args()
  try:
    classifier = SafetyClassifier.load(options.model)
    texts = read_texts(options.data).column("text")
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return error.code
  texts = (texts * (options.rows // len(texts) + 1))[: options.rows]
  pipeline = make_pipeline(options.model, classifier)
  classifier(texts)  # compiles
  trial = {
    size: timed(lambda size=size: pipeline(texts[:TRIAL], size))[0]
    for size in BATCH_SIZES
  }
  best = min(trial, key=trial.get)
  rates = {size: round(TRIAL / seconds, 1) for size, seconds in trial.items()}
  print("pipeline, rows/s by batch size:", rates)
  seconds: dict[str, list[float]] = {"ssljax": [], "pipeline": []}
  for _ in range(options.rounds):
    elapsed, scores = timed(lambda: classifier(texts))
    seconds["ssljax"].append(elapsed)
    elapsed, expected = timed(lambda: pipeline(texts, best))
    seconds["pipeline"].append(elapsed)
  difference = float(np.abs(scores - expected).max())
  for name, rounds in seconds.items():
    rates = [len(texts) / elapsed for elapsed in rounds]
    spread = f"{min(rates):.1f} to {max(rates):.1f}"
    print(f"{name}: {statistics.median(rates):.1f} rows/s ({spread})")
  ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
  print(
    f"ssljax is {statistics.median(ratios):.2f} times as fast as the pipeline with "
    f"batches of {best} ({min(ratios):.2f} to {max(ratios):.2f}); scores differ by at "
    f"most {difference:.1e}"
  )
  return 0 if difference <= TOLERANCE else 1


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
  """Returns the seconds that `work()` took, and its result."""
  began = time.perf_counter()
  result = work()
  return time.perf_counter() - began, result


def make_pipeline(folder: str, classifier: SafetyClassifier) -> Callable:
  """Returns a function (texts, batch_size) -> scores, calibrated as `classifier`'s."""
  import transformers

  pipeline = transformers.pipeline("text-classification", model=folder, device="cpu")
  harmful = classifier.labels[1]

  def score(texts: list[str], batch_size: int) -> np.ndarray:
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    outputs = pipeline(
      [texts[i] for i in order],
      top_k=None,
      function_to_apply="none",
      batch_size=batch_size,
      truncation=True,
      max_length=classifier.max_length,
    )
    scores = np.zeros(len(texts))
    for i, entries in zip(order, outputs, strict=True):
      logits = {entry["label"]: entry["score"] for entry in entries}
      other = next(logit for label, logit in logits.items() if label != harmful)
      scores[i] = 1 / (1 + np.exp((other - logits[harmful]) / classifier.temperature))
    return scores

  return score


if __name__ == "__main__":
  sys.exit(main())

"""Rows scored a second against a torch `transformers` pipeline, tokenising included.

  python -m ssljax.export --workdir=DIR --output=FOLDER      # of a run with head=hf
  python -m benchmarks.predict --model=FOLDER --data=FILE

The pipeline gets the texts sorted by length and its best batch size of BATCHES. Rounds
alternate, so that both meet the same noise. Scores must agree to 1e-4, else it ends
with 1. Needs the extra `parity` (torch).
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from ssljax import SafetyClassifier
from ssljax.data.records import records
from ssljax.errors import UserError

BATCHES = (4, 8, 16, 32, 64)
APART = 1e-4


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument("--model", required=True)
  parser.add_argument("--data", required=True)
  parser.add_argument("--rows", type=int, default=2000)
  parser.add_argument("--rounds", type=int, default=5)
  options = parser.parse_args()
  try:
    classifier = SafetyClassifier.load(options.model)
    texts = records.read_texts(options.data).column("text")
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return error.code
  texts = (texts * (options.rows // len(texts) + 1))[: options.rows]
  theirs = pipeline(options.model, classifier)
  ours = lambda: classifier(texts)
  ours()  # compiles
  trial = {b: timed(lambda b=b: theirs(texts[:400], b))[0] for b in BATCHES}
  best = min(trial, key=trial.get)
  print("pipeline, rows/s:", {b: round(400 / s, 1) for b, s in trial.items()})
  seconds: dict[str, list[float]] = {"ours": [], "pipeline": []}
  for _ in range(options.rounds):
    one, scores = timed(ours)
    other, wanted = timed(lambda: theirs(texts, best))
    seconds["ours"].append(one)
    seconds["pipeline"].append(other)
  apart = float(np.abs(scores - wanted).max())
  for name, some in seconds.items():
    rates = [len(texts) / s for s in some]
    spread = f"{min(rates):.1f} to {max(rates):.1f}"
    print(f"{name}: {statistics.median(rates):.1f} rows/s ({spread})")
  ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
  print(
    f"ours over the pipeline (batch {best}): {statistics.median(ratios):.2f}"
    f" ({min(ratios):.2f} to {max(ratios):.2f}); scores differ by {apart:.1e} at most"
  )
  return 0 if apart <= APART else 1


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
  began = time.perf_counter()
  found = work()
  return time.perf_counter() - began, found


def pipeline(folder: str, classifier: SafetyClassifier) -> Callable:
  """(texts, batch) -> scores of the harmful class, calibrated as ours."""
  import transformers

  made = transformers.pipeline("text-classification", model=folder, device="cpu")
  longest, harmful = classifier.max_length, classifier.labels[1]

  def score(texts: list[str], batch: int) -> np.ndarray:
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    given = {"batch_size": batch, "truncation": True, "max_length": longest}
    found = made(
      [texts[i] for i in order], top_k=None, function_to_apply="none", **given
    )
    out = np.zeros(len(texts))
    for i, some in zip(order, found, strict=True):
      logit = {one["label"]: one["score"] for one in some}
      rest = next(v for name, v in logit.items() if name != harmful)
      out[i] = 1 / (1 + np.exp((rest - logit[harmful]) / classifier.temperature))
    return out

  return score


if __name__ == "__main__":
  sys.exit(main())

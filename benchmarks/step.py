"""Times variants of one train step, or the steps of several methods, side by side.

  python -m benchmarks.step --data=FOLDER --compare=order
  python -m benchmarks.step --data=FOLDER --compare=torch --max_length=128 --batch=8
  python -m benchmarks.step --data=FOLDER --compare=methods --max_length=64 --batch=8

Each round runs one step of every variant in turn, on the same batch, so that a noisy
machine slows down all of them. For each variant, the command prints the median, lowest
and highest time in seconds, and the ratio to the first variant: median over rounds and
quartiles. With `--rounds=0`, it only prints how full the rows are. `methods` compares
each method with `--method`, two at a time. `torch` needs the extra `parity`; it runs
the step as published code does, one view after another, padded to the longest text of
the batch.
"""

import argparse
import functools
import importlib
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from ssljax import methods
from ssljax.data.batches import loader
from ssljax.training import assemble, preview

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
# name -> config keys
VARIANTS = {
  "order": {"stratified": {}, "random": {"order": "random"}},
  "layout": {"packed": {}, "padded": {"layout": "padded"}},
  "random": {
    "hash": {},
    "rbg": {"dropout_bits": "prng"},
    "threefry2x32": {"dropout_bits": "prng", "prng": "threefry2x32"},
    "no dropout": {"dropout": 0.0},
    "no weak dropout": {"weak_dropout": False},
  },
  "loop": {"unrolled": {}, "a layer per round": {"unroll": 1}},
  "torch": {"packed": {}},
  "dtype": {"float32": {"dtype": "float32"}, "bfloat16": {"dtype": "bfloat16"}},
  "methods": {"baseline": {}},
}


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--data", required=True)
  parser.add_argument("--encoder", default=MINILM)
  parser.add_argument("--compare", choices=VARIANTS, default="order")
  parser.add_argument("--method", default="fixmatch")
  parser.add_argument("--max_length", type=int, default=512)
  parser.add_argument("--batch", type=int, default=16)
  parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
  parser.add_argument("--rounds", type=int, default=7)
  options = parser.parse_args()
  variants: dict[str, Callable[[int], None]] = {}
  for name, keys in VARIANTS[options.compare].items():
    job = make_job(options, keys)
    variants[name] = jax_step(job)
    describe(name, job)
  if options.compare == "torch":
    variants["torch, padded"] = torch_step(job, options.dtype)

  others = [name for name in methods.names() if name != options.method]
  if options.compare != "methods":
    print(*compare(variants, options.rounds), sep="\n")
    return
  for name in others:
    other = jax_step(make_job(options, {}, name))
    print(compare(variants | {name: other}, options.rounds)[-1], flush=True)


def compare(variants: dict[str, Callable[[int], None]], rounds: int) -> list[str]:
  """Returns one line per variant; ratios are to the first one."""
  if not rounds:
    return []
  for t in range(rounds):  # compiles all shapes
    for run in variants.values():
      run(t)
  seconds: dict[str, list[float]] = {name: [] for name in variants}
  for t in range(rounds):
    for name, run in variants.items():
      began = time.perf_counter()
      run(t)
      seconds[name].append(time.perf_counter() - began)
  first, lines = next(iter(variants)), []
  for name, times in seconds.items():
    ratios = np.array(times) / np.array(seconds[first])
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    lines.append(
      f"{name}: {statistics.median(times):.3f} s ({min(times):.3f} to "
      f"{max(times):.3f}), ratio {middle:.2f} ({low:.2f} to {high:.2f})"
    )
  return lines


def make_job(
  options: argparse.Namespace, keys: dict, method: str = ""
) -> assemble.TrainingJob:
  file = importlib.import_module(f"configs.{method or options.method}")
  return assemble.assemble(
    file.get_config().to_dict()
    | {
      "data": options.data,
      "encoder": options.encoder,
      "max_length": options.max_length,
      "batch": options.batch,
      "dtype": options.dtype,
      "steps": 300,
    }
    | keys
  )


def jax_step(job: assemble.TrainingJob) -> Callable[[int], None]:
  """A function that runs step t and waits for it; calls update the same state."""
  state = job.first()

  def run(t: int) -> None:
    nonlocal state
    state, _ = job.train_step(state, *job.put(*job.batches.batch(t)))
    jax.block_until_ready(state)

  return run


def describe(name: str, job: assemble.TrainingJob) -> None:
  batches = [job.batches.batch(t)[0] for t in range(30)]
  real, rows = np.sum([preview.real_tokens(batch) for batch in batches], axis=0)
  shapes = len({preview.shape_of(batch) for batch in batches})
  print(f"{name}: {real / rows:.1%} real tokens, {shapes} shapes in 30 steps")


def torch_step(job: assemble.TrainingJob, dtype: str) -> Callable[[int], None]:
  """A function that runs the FixMatch step in torch, on the same texts.

  With bfloat16, under torch's autocast.
  """
  import torch
  from transformers import BertForSequenceClassification

  train, classes = job.data.train, job.sizes.classes
  torch.manual_seed(0)
  model = BertForSequenceClassification.from_pretrained(
    job.data.encoder, num_labels=classes, torch_dtype=torch.float32
  ).train()
  optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=5e-4)
  entropy = torch.nn.functional.cross_entropy

  def pad(view: loader.View, rows: np.ndarray) -> dict:
    epochs = np.zeros(len(rows), int)
    texts = [ids for ids, _ in view.texts(view.draw(0, epochs, rows))]
    length = max(map(len, texts))
    ids = np.zeros((len(texts), length), np.int64)
    for row, text in zip(ids, texts, strict=True):
      row[: len(text)] = text
    return {
      "input_ids": torch.from_numpy(ids),
      "attention_mask": torch.from_numpy((ids > 0).astype(np.int64)),
    }

  autocast = functools.partial(
    torch.autocast, "cpu", torch.bfloat16, enabled=dtype == "bfloat16"
  )

  def run(t: int) -> None:
    labelled, unlabelled = job.batches.order(t)
    target = torch.from_numpy(train.label[labelled].astype(np.int64))
    with torch.no_grad(), autocast():
      weak = model(**pad(train.unlabelled["weak"], unlabelled)).logits.float()
    confidence, pseudo = weak.softmax(-1).max(-1)
    with autocast():
      labelled_logits = model(**pad(train.labelled["weak"], labelled)).logits
      strong = model(**pad(train.unlabelled["strong"], unlabelled)).logits
    supervised = entropy(labelled_logits.float(), target)
    strong = strong.float()
    losses = entropy(strong, pseudo, reduction="none")
    loss = supervised + (losses * (confidence >= 0.95)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

  return run


if __name__ == "__main__":
  main()

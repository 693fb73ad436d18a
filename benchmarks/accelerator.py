"""Measures a train step on the devices of this machine: time, tokens, MFU, memory.

  python -m benchmarks.accelerator
  python -m benchmarks.accelerator --encoder=deberta-v3-large --fsdp=8 --batch=64
  python -m benchmarks.accelerator --data=FOLDER --tokenizer=ENCODER --output=FILE.json

The default is DeBERTa-v3-base in bfloat16 with FixMatch and the batch of arXiv
2512.21107, 16 labelled and 48 unlabelled prompts of up to 512 tokens, under `jit` over
all devices. Weights and tokens are random (`benchmarks.synthetic`); with --data, the
texts have the lengths of the training texts in FOLDER.

  model FLOPs utilisation = FLOPs / (seconds * peak)

where FLOPs are what the step's matrix products need (`ssljax.training.flops`: attention
within a text, no padding, no recomputation), averaged over the timed steps; seconds is
the median time of a step; and peak is the rate of dense bfloat16 products of all
devices together. It is missing on devices whose peak isn't known, such as CPUs, unless
--peak gives it in FLOP/s for one device. Memory is the devices' own count of the
largest use, or, where they have none, the compiler's for the largest step.

A step is timed from its dispatch, with the batch on the devices, to its end.
`host_seconds` is the time that the host takes to make a batch.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import synthetic
from benchmarks.architectures import ENCODERS
from ssljax.training import preview


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--encoder", choices=ENCODERS, default="deberta-v3-base")
  parser.add_argument("--method", default="fixmatch")
  parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
  for name, default in {"batch": 16, "ratio": 3, "max_length": 512}.items():
    parser.add_argument(f"--{name}", type=int, default=default)
  for name, default in {"fsdp": 1, "accumulation": 1, "steps": 30}.items():
    parser.add_argument(f"--{name}", type=int, default=default)
  parser.add_argument("--remat", action="store_true")
  parser.add_argument(
    "--data", help="folder of a dataset, for the lengths of its texts"
  )
  parser.add_argument("--tokenizer", default="microsoft/deberta-v3-base")
  parser.add_argument("--peak", type=float, help="FLOP/s of a device")
  parser.add_argument("--output", type=Path, help="JSON file")
  options = vars(parser.parse_args())
  encoder = ENCODERS[options["encoder"]]
  names = ("method", "dtype", "batch", "ratio", "max_length", "fsdp", "accumulation")
  keys = {name: options[name] for name in (*names, "remat")}
  if options["data"]:
    keys["lengths"] = read_lengths(
      options["data"], options["tokenizer"], options["max_length"]
    )
  job = synthetic.make(encoder, **keys)
  measured = measure(job, options["steps"], options["peak"])
  shown = {k: v for k, v in options.items() if v is not None and k != "output"}
  print(*table({**shown, **measured}), sep="\n")
  if options["output"]:
    options["output"].write_text(json.dumps({**shown, **measured}, indent=2) + "\n")


def measure(
  job: synthetic.Job, steps: int, peak: float | None = None
) -> dict[str, Any]:
  """Times `steps` steps, after one step of every shape of a batch among them.

  Args:
    peak: FLOP/s of a device; None to look it up.
  """
  batches, host = [], []
  for t in range(steps):
    began = time.perf_counter()
    batches.append(job.loader.batch(t)[0])
    host.append(time.perf_counter() - began)
  state, seconds, programs = job.init(), [], {}
  began = time.perf_counter()
  for t, batch in enumerate(batches):
    if (shape := preview.shape_of(batch)) not in programs:
      programs[shape] = job.step.lower(job.state, *job.put(t)).compile()
      state, _ = programs[shape](state, *job.put(t))
  compile_seconds = time.perf_counter() - began
  for t, batch in enumerate(batches):
    program = programs[preview.shape_of(batch)]
    arguments = jax.block_until_ready((state, *job.put(t)))
    began = time.perf_counter()
    state, values = program(*arguments)
    jax.block_until_ready(values)
    seconds.append(time.perf_counter() - began)
  tokens = np.array([preview.real_tokens(batch) for batch in batches])
  low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75]).tolist()
  devices = job.devices.mesh.devices.ravel()
  rate = peak * len(devices) if peak else job.flops.peak
  flops = statistics.mean(map(job.flops, batches))
  return {
    "device": f"{len(devices)} x {devices[0].device_kind}",
    "parameters": sum(a.size for a in jax.tree.leaves(job.state.params)),
    "compile_seconds": compile_seconds,
    "shapes": len(programs),
    "step_seconds": median,
    "step_seconds_quartiles": [low, high],
    "host_seconds": statistics.median(host),
    "tokens_per_second": float(tokens[:, 0].mean() / median),
    "real_token_share": float(tokens[:, 0].sum() / tokens[:, 1].sum()),
    "flops_per_step": flops,
    "flops_per_second": flops / median,
    "mfu": flops / median / rate if rate else None,
    **memory(programs.values(), devices),
  }


def memory(programs: Iterable[Any], devices: np.ndarray) -> dict[str, Any]:
  """Bytes on the fullest device: largest use, and what the compiler expects."""
  stats = [device.memory_stats() or {} for device in devices]
  peaks = [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]
  counts = [program.memory_analysis() for program in programs]
  expected = max(
    count.argument_size_in_bytes
    + count.temp_size_in_bytes
    + count.output_size_in_bytes
    - count.alias_size_in_bytes
    for count in counts
  )
  return {
    "memory_bytes": max(peaks) if peaks else None,
    "compiler_memory_bytes": expected,
  }


def read_lengths(data: str, tokenizer: str, max_length: int) -> np.ndarray:
  """i64, the lengths of the training texts of a dataset under a tokenizer."""
  from ssljax.assets.encoders import resolve
  from ssljax.data.batches import tokenize
  from ssljax.data.batches.tokenizer import load_tokenizer
  from ssljax.data.records.read import read_splits

  rows, loaded = read_splits(data).train, load_tokenizer(resolve(tokenizer))
  texts, responses = rows.column("text"), rows.column("response")
  return tokenize.encode(loaded, texts, responses, max_length).lengths


def table(values: dict[str, Any]) -> list[str]:
  """A Markdown table of the values."""
  form: dict[type, Callable] = {float: "{:.4g}".format, bool: str, int: "{:,}".format}
  show = lambda v: (
    ", ".join(map(show, v))
    if isinstance(v, list)
    else ("unknown" if v is None else form.get(type(v), str)(v))
  )
  lines = [f"| {name} | {show(value)} |" for name, value in values.items()]
  return ["| what | value |", "|---|---|", *lines]


if __name__ == "__main__":
  main()

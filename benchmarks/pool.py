"""Measures a run with a pool of any size: tokenising, start, memory and step rate.

  python -m benchmarks.pool --data=FOLDER --rows=10000,10000000 --output=pool.json
  python -m benchmarks.pool --tables --rows=10000000

For each number of rows, it writes a synthetic dataset: a Parquet file of unlabelled
texts, whose lengths and words are drawn from the texts of `--data`; validation, test
and the labelled rows are those of `--data`. Then it measures, in a separate cache:

- `tokenise`: rows per second of `ssljax.data.tokenize`, with the start of its
  processes, and of the same tokenizer when it's called directly in batches on all
  cores, on a sample of the rows, before and after; `ratio` is the first divided by the
  mean of the two.
- `first`: seconds until the first step has ended, with an empty compilation cache.
- `later`: the same for `--starts` more starts: the median, lowest and highest. Those of
  all sizes take turns.
- `assemble`: the same for what a start does with the data and the model, without
  imports and compilation, after each of these starts.
- `dry`: peak memory with `--config.dry_run=true`, when nothing is compiled, of the
  process without its children. No step runs, whose arrays would be in the same memory
  on a CPU. `mib` is memory of the process alone; `mapped_mib` is what it maps of files
  and libraries, which the system can drop at any time.
- `step`: median seconds of a step, over the steps of a short run.

With `--folder`, data and tokens that are already there are used again, and `tokenise`
isn't measured for these. `--tables` prints the bytes of each method's state that grow
with the pool, instead.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssljax import methods, wrappers
from ssljax.assets import fetch
from ssljax.assets.encoders import resolve
from ssljax.data.batches import tokenize
from ssljax.data.records import records
from ssljax.data.records.files import PARQUET
from ssljax.data.records.read import read_splits
from ssljax.data.sources.build import resolve_data
from ssljax.errors import UserError
from ssljax.method import Sizes
from ssljax.training import tables

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CHUNK = 50_000  # rows written at a time
GROUP = 500_000  # rows of a row group
RUN = Sizes(  # of which `--tables` prints the tables
  classes=2,
  labelled=200,
  unlabelled=0,
  batch=16,
  unlabelled_batch=48,
  steps=1300,
  epoch_steps=13,
  labelled_counts=(100, 100),
  width=384,
)
SAMPLE = 60_000  # rows that the tokenizer gets directly


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument("--data", default="pyrit")
  parser.add_argument("--encoder", default=MINILM)
  parser.add_argument("--rows", default="10000,10000000")
  parser.add_argument("--method", default="fixmatch")
  parser.add_argument("--max_length", type=int, default=128)
  parser.add_argument("--steps", type=int, default=8)
  parser.add_argument("--starts", type=int, default=3)
  parser.add_argument("--output", default="", help="JSON file")
  parser.add_argument("--folder", default="", help="for data and caches; kept")
  parser.add_argument("--tables", action="store_true")
  options = parser.parse_args()
  sizes = [int(size) for size in options.rows.split(",")]
  try:
    if options.tables:
      print_tables(sizes)
      return 0
    with place(options.folder) as folder:
      pools = [make_pool(options, rows, folder) for rows in sizes]
      for _ in range(options.starts):
        for pool in pools:
          pool.later.append(started(pool.run, pool.cache)["seconds"])
          pool.assemble.append(assemble_seconds(options.method, pool.keys, pool.cache))
      results = [summarise(pool, options.steps) for pool in pools]
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return error.code
  print_results(results)
  if options.output:
    Path(options.output).write_text(json.dumps(results, indent=2) + "\n")
  return 0


@contextlib.contextmanager
def place(folder: str) -> Iterator[Path]:
  """The folder, or a temporary one."""
  if folder:
    Path(folder).mkdir(parents=True, exist_ok=True)
    yield Path(folder)
    return
  with tempfile.TemporaryDirectory() as temporary:
    yield Path(temporary)


@dataclasses.dataclass
class Pool:
  """A synthetic dataset, its cache, and what was measured."""

  rows: int
  cache: Path
  keys: dict[str, Any]  # of the config
  run: tuple[str, ...]  # the arguments of `python -m` that start a run
  tokenise: dict[str, float]
  first: float
  later: list[float] = dataclasses.field(default_factory=list)
  assemble: list[float] = dataclasses.field(default_factory=list)


def make_pool(options: argparse.Namespace, rows: int, folder: Path) -> Pool:
  """Writes the dataset, tokenises it, and starts a run."""
  data, cache = folder / f"data-{rows}", folder / f"cache-{rows}"
  if not data.exists():
    write_pool(resolve_data(options.data), data, rows)
  size = f"--max_length={options.max_length}"
  tokenised: dict[str, float] = {}
  if not (cache / "tokenised").exists():
    shutil.rmtree(cache, ignore_errors=True)  # of a call that was killed
    cache.mkdir()
    (cache / "assets").symlink_to(fetch.cache_folder() / "assets")
    flags = (f"--data={data}", f"--encoder={options.encoder}", size)
    encoder = resolve(options.encoder)
    before = direct_rate(data, encoder)
    rate = rows / timed(("ssljax.data.tokenize", *flags), cache)["seconds"]
    direct = (before + direct_rate(data, encoder)) / 2
    tokenised = {"rate": rate, "direct": direct, "ratio": rate / direct}
    (cache / "tokenised").touch()
  keys = {
    "data": str(data),
    "encoder": options.encoder,
    "max_length": options.max_length,
    "on_overlap": "drop",
  }
  flags = (f"--config.{key}={value}" for key, value in keys.items())
  run = ("ssljax.main", f"--config={options.method}", *flags)
  shutil.rmtree(cache / "xla", ignore_errors=True)
  first = started(run, cache)["seconds"]
  return Pool(rows, cache, keys, run, tokenised, first)


def summarise(pool: Pool, steps: int) -> dict[str, Any]:
  """All measurements for one size of the pool."""
  dry = (*pool.run, "--config.dry_run=true")
  spread = lambda values: [float(f(values)) for f in (np.median, min, max)]
  return {
    "rows": pool.rows,
    "tokenise": pool.tokenise,
    "first": pool.first,
    "later": spread(pool.later) if pool.later else [],
    "assemble": spread(pool.assemble) if pool.assemble else [],
    "dry": [timed(dry, pool.cache) for _ in range(2)][1],  # the first one compiles
    "step": step_seconds(pool.run, steps, pool.cache),
  }


def write_pool(source: str, folder: Path, rows: int) -> None:
  """Writes a dataset whose train split has `rows` more rows than that of `source`."""
  splits = read_splits(source)
  texts = splits.train.column("text")
  words = np.array([word for text in texts for word in text.split()], object)
  lengths = np.array([len(text.split()) for text in texts])
  rng = np.random.default_rng(0)
  for name in ("validation", "test"):
    records.write_parquet(getattr(splits, name), folder / name / "part.parquet")
  records.write_parquet(splits.train, folder / "train" / "labelled.parquet")
  schema = pa.schema({"id": pa.large_string(), "text": pa.large_string()})
  path = folder / "train" / "pool.parquet"
  with pq.ParquetWriter(path, schema, **PARQUET) as writer:
    for group in range(0, rows, GROUP):
      tables = []
      for begin in range(group, min(group + GROUP, rows), CHUNK):
        count = min(CHUNK, rows - begin)
        size = rng.choice(lengths, count)
        drawn = rng.choice(words, size.sum()).tolist()
        ends = np.cumsum(size).tolist()
        starts = [0, *ends[:-1]]
        drawn_texts = [
          " ".join(drawn[a:b]) or "text" for a, b in zip(starts, ends, strict=True)
        ]
        ids = [f"pool-{row}" for row in range(begin, begin + count)]
        tables.append(pa.table({"id": ids, "text": drawn_texts}, schema))
      writer.write_table(pa.concat_tables(tables), row_group_size=GROUP)


def direct_rate(data: Path, encoder: Path) -> float:
  """Rows per second of the tokenizer alone, which uses all cores."""
  file = pq.ParquetFile(data / "train" / "pool.parquet")
  texts = next(file.iter_batches(SAMPLE, columns=["text"]))["text"].to_pylist()
  backend = tokenize.load_tokenizer(encoder).backend_tokenizer
  encode = lambda: [
    encoding.ids
    for begin in range(0, len(texts), tokenize.CHUNK)
    for encoding in backend.encode_batch(
      texts[begin : begin + tokenize.CHUNK], add_special_tokens=False
    )
  ]
  encode()  # once, so that its threads are there
  began = time.perf_counter()
  encode()
  return len(texts) / (time.perf_counter() - began)


def timed(
  command: Sequence[str], cache: Path, until: Callable[[], bool] = lambda: False
) -> dict[str, float]:
  """Seconds, and peak memory in MiB, of `python -m command`.

  Args:
    until: once it's true, the process is killed.
  """
  began = time.perf_counter()
  with tempfile.TemporaryFile() as errors:
    process = subprocess.Popen(
      [sys.executable, "-m", *command],
      env=os.environ | {"SSLJAX_CACHE": str(cache)},
      stdout=subprocess.DEVNULL,
      stderr=errors,
    )
    own, mapped = 0, 0
    while not (done := until()) and process.poll() is None:
      own, mapped = map(max, (own, mapped), resident(process.pid))
      time.sleep(0.05)
    seconds = time.perf_counter() - began
    if done:
      process.kill()
    if process.wait() and not done:
      errors.seek(0)
      message = errors.read().decode(errors="replace")[-2000:]
      raise UserError(f"{' '.join(command)}: {message}")
  return {"seconds": seconds, "mib": own / 1024, "mapped_mib": mapped / 1024}


def started(run: Sequence[str], cache: Path) -> dict[str, float]:
  """`timed` for a run until its first step has ended."""
  with tempfile.TemporaryDirectory() as folder:
    metrics = Path(folder) / "run" / "metrics.jsonl"
    keys = (f"--workdir={metrics.parent}", "--config.log_every=1")
    return timed((*run, *keys), cache, lambda: is_trained(metrics))


# Assembles a run, and prints how long it takes.
ASSEMBLE = """
import json, sys, time
from ssljax.configs import base
from ssljax.training.assemble import assemble
config = base.get_config(sys.argv[1]).to_dict() | json.loads(sys.argv[2])
began = time.perf_counter()
assemble(config)
print(time.perf_counter() - began)
"""


def assemble_seconds(method: str, keys: dict[str, Any], cache: Path) -> float:
  """How long it takes to assemble a run in a separate process."""
  command = [sys.executable, "-c", ASSEMBLE, method, json.dumps(keys)]
  environment = os.environ | {"SSLJAX_CACHE": str(cache)}
  return float(subprocess.check_output(command, env=environment, text=True).split()[-1])


def is_trained(metrics: Path) -> bool:
  """Whether a run has logged a step."""
  return metrics.exists() and '"loss"' in metrics.read_text()


def resident(pid: int) -> tuple[int, int]:
  """KiB in memory that only the process has, and KiB of files that it maps (Linux)."""
  try:
    status = Path(f"/proc/{pid}/status").read_text()
  except OSError:  # it has ended
    return 0, 0
  fields = dict(line.split(":", 1) for line in status.splitlines())
  kib = lambda name: int(fields.get(name, "0 kB").split()[0])
  return kib("RssAnon") + kib("RssShmem"), kib("RssFile")


def step_seconds(run: Sequence[str], steps: int, cache: Path) -> float | None:
  """The median time of a step in a short run; None without steps."""
  if not steps:
    return None
  with tempfile.TemporaryDirectory() as folder:
    metrics = Path(folder) / "run" / "metrics.jsonl"
    keys = (f"--workdir={metrics.parent}", f"--config.steps={steps}")
    timed((*run, *keys, "--config.log_every=1"), cache)
    lines = map(json.loads, metrics.read_text().splitlines())
    times = [line["step_seconds"] for line in lines if "step_seconds" in line]
  return float(np.median(times)) if times else None


def print_results(results: Sequence[dict[str, Any]]) -> None:
  """Prints a line for each size."""
  spread = lambda values: (
    "{:.1f} s ({:.1f} to {:.1f})".format(*values) if values else ""
  )
  print("rows | tokenise | direct | ratio | first | later | assemble | dry | step")
  for result in results:
    tokenise = "| |"
    if result["tokenise"]:
      tokenise = "{rate:.0f}/s | {direct:.0f}/s | {ratio:.2f}".format(
        **result["tokenise"]
      )
    times = f"{result['first']:.1f} s | {spread(result['later'])}"
    memory = "{mib:.0f} + {mapped_mib:.0f} MiB".format(**result["dry"])
    step = "" if result["step"] is None else f"{result['step']:.3f} s"
    print(
      f"{result['rows']} | {tokenise} | {times} | {spread(result['assemble'])} | "
      f"{memory} | {step}"
    )


def print_tables(sizes: Sequence[int]) -> None:
  """Prints the bytes that each method keeps for each unlabelled text."""
  print("method | " + " | ".join(f"{size} texts" for size in sizes))
  named = {name: methods.make({"name": name}) for name in methods.names()}
  for name in wrappers.names():
    named[f"{name} over fixmatch"] = wrappers.wrap(named["fixmatch"], {"name": name})
  for name, method in named.items():
    found = (tables.pool_bytes(method, RUN._replace(unlabelled=n)) for n in sizes)
    cells = [f"{size / 2**20:.1f} MiB" for size in found]
    print(f"{name} | {' | '.join(cells)}")


if __name__ == "__main__":
  sys.exit(main())

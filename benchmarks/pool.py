"""Measures a run with a pool of any size: tokenising, start, memory and step rate.

  python -m benchmarks.pool --data=FOLDER --rows=10000,10000000 --output=pool.json
  python -m benchmarks.pool --tables --rows=10000000

For each number of rows, it writes a synthetic dataset: a Parquet file of unlabelled
texts, whose lengths and words are drawn from the texts of `--data`; validation, test
and the labelled rows are those of `--data`. Then it measures, in a separate cache:

- `tokenise`: rows per second of `ssljax.data.tokenize`, with the start of its
  processes, and of the same tokenizer when it's called directly in batches on all
  cores, on a sample of the rows; `ratio` is the first divided by the second.
- `first`, `second`: seconds and peak memory (of the process, without its children) of
  `--config.dry_run=true`, the first time and once more. `mib` is memory of the process
  alone; `mapped_mib` is what it maps of files, which the system can drop at any time.
- `assemble`: median seconds of what a start does with the data and the model, without
  imports and compilation, of three times.
- `step`: median seconds of a step, over the steps of a short run.

`--tables` prints the bytes of each method's state that grow with the pool, instead.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
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
SAMPLE = 20_000  # rows that the tokenizer gets directly


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument("--data", default="pyrit")
  parser.add_argument("--encoder", default=MINILM)
  parser.add_argument("--rows", default="10000,10000000")
  parser.add_argument("--method", default="fixmatch")
  parser.add_argument("--max_length", type=int, default=128)
  parser.add_argument("--steps", type=int, default=8)
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
      results = [measure(options, rows, folder) for rows in sizes]
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


def measure(options: argparse.Namespace, rows: int, folder: Path) -> dict[str, Any]:
  """All measurements for one size of the pool."""
  data = folder / f"data-{rows}"
  if not data.exists():
    write_pool(resolve_data(options.data), data, rows)
  cache = folder / f"cache-{rows}"
  shutil.rmtree(cache, ignore_errors=True)
  cache.mkdir()
  (cache / "assets").symlink_to(fetch.cache_folder() / "assets")
  size = f"--max_length={options.max_length}"
  common = (f"--data={data}", f"--encoder={options.encoder}", size)
  tokenised = timed(("ssljax.data.tokenize", *common), cache)
  encoder = resolve(options.encoder)
  direct = direct_rate(data, encoder)
  run = (
    *("ssljax.main", f"--config={options.method}", f"--config.data={data}"),
    *(f"--config.encoder={options.encoder}", f"--config.{size[2:]}"),
    "--config.on_overlap=drop",
  )
  dry = [timed((*run, "--config.dry_run=true"), cache) for _ in range(2)]
  rate = rows / tokenised["seconds"]
  return {
    "rows": rows,
    "tokenise": rate,
    "direct": direct,
    "ratio": rate / direct,
    "first": dry[0],
    "second": dry[1],
    "assemble": assemble_seconds(options, data, cache),
    "step": step_seconds(run, options.steps, cache, folder / f"run-{rows}"),
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


def timed(command: Sequence[str], cache: Path) -> dict[str, float]:
  """Seconds, and peak memory in MiB, of `python -m command`."""
  began = time.perf_counter()
  with tempfile.TemporaryFile() as errors:
    process = subprocess.Popen(
      [sys.executable, "-m", *command],
      env=os.environ | {"SSLJAX_CACHE": str(cache)},
      stdout=subprocess.DEVNULL,
      stderr=errors,
    )
    own, mapped = 0, 0
    while process.poll() is None:
      own, mapped = map(max, (own, mapped), resident(process.pid))
      time.sleep(0.05)
    seconds = time.perf_counter() - began
    if process.returncode:
      errors.seek(0)
      message = errors.read().decode(errors="replace")[-2000:]
      raise UserError(f"{' '.join(command)}: {message}")
  return {"seconds": seconds, "mib": own / 1024, "mapped_mib": mapped / 1024}


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


def assemble_seconds(options: argparse.Namespace, data: Path, cache: Path) -> float:
  """The median time that it takes to assemble a run in a separate process."""
  keys = {
    "data": str(data),
    "encoder": options.encoder,
    "max_length": options.max_length,
    "on_overlap": "drop",
  }
  command = [sys.executable, "-c", ASSEMBLE, options.method, json.dumps(keys)]
  environment = os.environ | {"SSLJAX_CACHE": str(cache)}
  times = [
    float(subprocess.check_output(command, env=environment, text=True).split()[-1])
    for _ in range(3)
  ]
  return float(np.median(times))


def resident(pid: int) -> tuple[int, int]:
  """KiB in memory that only the process has, and KiB of files that it maps (Linux)."""
  try:
    status = Path(f"/proc/{pid}/status").read_text()
  except OSError:  # it has ended
    return 0, 0
  fields = dict(line.split(":", 1) for line in status.splitlines())
  kib = lambda name: int(fields.get(name, "0 kB").split()[0])
  return kib("RssAnon") + kib("RssShmem"), kib("RssFile")


def step_seconds(
  command: Sequence[str], steps: int, cache: Path, workdir: Path
) -> float | None:
  """The median time of a step in a short run; None without steps."""
  if not steps:
    return None
  shutil.rmtree(workdir, ignore_errors=True)
  keys = (f"--workdir={workdir}", f"--config.steps={steps}", "--config.log_every=1")
  timed((*command, *keys), cache)
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
  times = [line["step_seconds"] for line in lines if "step_seconds" in line]
  return float(np.median(times)) if times else None


def print_results(results: Sequence[dict[str, Any]]) -> None:
  print("rows | tokenise | direct | ratio | first | second | assemble | step")
  for result in results:
    starts = (
      f"{r['seconds']:.1f} s, {r['mib']:.0f} + {r['mapped_mib']:.0f} MiB"
      for r in dry_runs(result)
    )
    step = "" if result["step"] is None else f"{result['step']:.3f} s"
    rates = f"{result['tokenise']:.0f}/s | {result['direct']:.0f}/s"
    print(
      f"{result['rows']} | {rates} | {result['ratio']:.2f} | {' | '.join(starts)} | "
      f"{result['assemble']:.1f} s | {step}"
    )


def dry_runs(result: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
  return result["first"], result["second"]


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

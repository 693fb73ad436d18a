"""Measures speed and memory of augmentation: EDA on many texts.

  python -m benchmarks.augment --texts=1000000 --workers=2

The texts consist of random sentences from the source `pyrit`. Filters that need an
encoder are off. The reported memory is an upper bound: peak memory of the main process,
plus that of the largest worker times the number of workers, including shared pages.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records.read import read_splits
from ssljax.data.records.schema import SCHEMA
from ssljax.data.sources import build

ROOT = Path(__file__).parent.parent
ROWS = 10_000  # in one row group


def write_dataset(folder: Path, texts: int, seed: int = 0) -> int:
  """Writes a dataset folder of `texts` texts; returns their number of characters."""
  prompts = read_splits(build.resolve_data("pyrit")).train.column("text")
  sentences = sorted({s for text in prompts for s in re.split(r"(?<=[.?!])\s+", text)})
  sentences = [s for s in sentences if 20 < len(s) < 200]
  rng = np.random.default_rng(seed)
  (folder / "train").mkdir(parents=True)
  (folder / "dataset.json").write_text("{}")
  characters = 0
  with pq.ParquetWriter(folder / "train" / "part-0.parquet", SCHEMA) as writer:
    for begin in range(0, texts, ROWS):
      rows = []
      for i in range(begin, min(begin + ROWS, texts)):
        chosen = rng.choice(len(sentences), rng.integers(1, 5))
        text = " ".join(sentences[k] for k in chosen)
        characters += len(text)
        rows.append({"id": str(i), "text": text, "source": "benchmark"})
      writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
  return characters


def measure(arguments: list[str]) -> None:
  """Augments in this process; writes time and memory to the first argument."""
  from configs.augment import eda
  from ssljax.augment.run import run

  output, data, texts, workers = arguments
  config = eda.get_config()
  config.workers = int(workers)
  began = time.monotonic()
  report = run(config.to_dict(), data)
  seconds = time.monotonic() - began
  assert report["counts"]["texts"] == int(texts)
  main_memory, worker_memory = (
    resource.getrusage(who).ru_maxrss / 1024
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  )
  processes = config.workers or len(os.sched_getaffinity(0))
  result = {
    "seconds": seconds,
    "main": main_memory,
    "worker": worker_memory,
    "sum": main_memory + (worker_memory * processes if processes > 1 else 0.0),
    "counts": report["counts"],
  }
  Path(output).write_text(json.dumps(result))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--texts", type=int, default=1_000_000)
  parser.add_argument("--workers", type=int, default=0, help="0: one for each core")
  options = parser.parse_args()
  scratch = Path(tempfile.mkdtemp(prefix="augment-"))
  try:
    characters = write_dataset(scratch / "data", options.texts)
    size = sum(p.stat().st_size for p in (scratch / "data").rglob("*") if p.is_file())
    print(
      f"{options.texts} texts of {characters / options.texts:.0f} characters,"
      f" {size / 1e6:.0f} MB of Parquet"
    )
    output = scratch / "result.json"
    arguments = [output, scratch / "data", options.texts, options.workers]
    subprocess.run(
      [sys.executable, "-m", "benchmarks.augment", "measure", *map(str, arguments)],
      check=True,
      cwd=ROOT,
    )
    result = json.loads(output.read_text())
    print(f"{options.texts / result['seconds']:.0f} texts/s, {result['seconds']:.1f} s")
    print(
      f"peak memory at most {result['sum']:.0f} MiB"
      f" (main {result['main']:.0f}, a worker {result['worker']:.0f})"
    )
    for name, count in result["counts"].items():
      print(f"  {name}: {count}")
  finally:
    shutil.rmtree(scratch)


if __name__ == "__main__":  # worker processes import this file
  if sys.argv[1:2] == ["measure"]:
    measure(sys.argv[2:])
  else:
    main()

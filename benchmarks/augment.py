"""How fast views are made, and in how much memory: EDA over many texts.

  python -m benchmarks.augment --texts=1000000 --workers=2

Texts are put together from sentences of the source `pyrit`. The cheap filters are on,
those that need an encoder off. Memory is that of the main process at its peak, plus
that of the largest worker at its peak for each worker: pages that they share count
several times, so the true sum is lower.
"""

import argparse
import json
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

from ssljax.data import prepare
from ssljax.data.records import records
from ssljax.data.records.schema import SCHEMA

ROOT = Path(__file__).parent.parent
ROWS = 10_000  # written at once


def write(folder: Path, texts: int, seed: int = 0) -> int:
  """Writes a dataset folder of `texts` texts; returns their characters."""
  found = records.read_splits(prepare.in_cache("pyrit")).train.column("text")
  sentences = sorted({s for text in found for s in re.split(r"(?<=[.?!])\s+", text)})
  sentences = [s for s in sentences if 20 < len(s) < 200]
  rng = np.random.default_rng(seed)
  (folder / "train").mkdir(parents=True)
  (folder / "dataset.json").write_text("{}")
  characters = 0
  with pq.ParquetWriter(folder / "train" / "part-0.parquet", SCHEMA) as writer:
    for begin in range(0, texts, ROWS):
      rows = []
      for i in range(begin, min(begin + ROWS, texts)):
        some = rng.choice(len(sentences), rng.integers(1, 5))
        text = " ".join(sentences[k] for k in some)
        characters += len(text)
        rows.append({"id": str(i), "text": text, "source": "benchmark"})
      writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
  return characters


def measured(arguments: list[str]) -> None:
  """Runs the command in this process, and writes what it took to the first argument."""
  from ssljax.augment import settings
  from ssljax.augment.run import run

  target, data, texts, workers = arguments
  from configs.augment import eda

  config = eda.get_config()
  config.workers = int(workers)
  began = time.monotonic()
  report = run(config.to_dict(), data)
  seconds = time.monotonic() - began
  assert report["counts"]["texts"] == int(texts)
  own, children = (
    resource.getrusage(who).ru_maxrss / 1024
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  )
  processes = settings.worker_count(
    settings.parse_config(config.to_dict())[0], local=True
  )
  used = children * processes if processes > 1 else 0.0
  found = {"seconds": seconds, "main": own, "worker": children, "sum": own + used}
  Path(target).write_text(json.dumps({**found, "counts": report["counts"]}))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--texts", type=int, default=1_000_000)
  parser.add_argument("--workers", type=int, default=0, help="0: one a core")
  given = parser.parse_args()
  scratch = Path(tempfile.mkdtemp(prefix="augment-"))
  try:
    characters = write(scratch / "data", given.texts)
    size = sum(p.stat().st_size for p in (scratch / "data").rglob("*") if p.is_file())
    print(
      f"{given.texts} texts of {characters / given.texts:.0f} characters,"
      f" {size / 1e6:.0f} MB of Parquet"
    )
    arguments = [scratch / "took.json", scratch / "data", given.texts, given.workers]
    subprocess.run(
      [sys.executable, "-m", "benchmarks.augment", "measured", *map(str, arguments)],
      check=True,
      cwd=ROOT,
    )
    took = json.loads((scratch / "took.json").read_text())
    print(f"{given.texts / took['seconds']:.0f} texts/s, {took['seconds']:.1f} s")
    print(
      f"peak memory at most {took['sum']:.0f} MiB"
      f" (main {took['main']:.0f}, a worker {took['worker']:.0f})"
    )
    for name, count in took["counts"].items():
      print(f"  {name}: {count}")
  finally:
    shutil.rmtree(scratch)


if __name__ == "__main__":  # worker processes import this file, too
  if sys.argv[1:2] == ["measured"]:
    measured(sys.argv[2:])
  else:
    main()

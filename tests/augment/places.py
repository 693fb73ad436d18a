"""Dataset folders of made-up texts, and the command run on them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records.schema import SCHEMA

ROOT = Path(__file__).parent.parent.parent
OLD = [{"kind": "old", "text": "an older view", "response": None, "origin": "x:1"}]


def rows(count, begin=0, response=False, unlabelled=True):
  return [
    {
      "id": f"row-{i}",
      "text": f"how long must I bake loaf number {i}",
      "response": f"bake it for {i} long minutes" if response else None,
      "label": None if unlabelled and i % 3 == 2 else i % 2,
      "label_name": None,
      "category": None if i % 2 else "bread",
      "source": "made up",
      "views": OLD if i % 4 == 0 else [] if i % 4 == 1 else None,
    }
    for i in range(begin, begin + count)
  ]


def folder(path, train=40, parts=2, response=False):
  """A folder as `python -m ssljax.data.prepare` writes it, train in several parts."""
  sizes = {"train": train, "validation": 4, "test": 4}
  begin = 0
  for split, count in sizes.items():
    (path / split).mkdir(parents=True)
    pieces = parts if split == "train" else 1
    for part in range(pieces):
      each = count // pieces
      some = rows(each, begin, response, split == "train")
      table = pa.Table.from_pylist(some, SCHEMA)
      pq.write_table(table, path / split / f"part-{part}.parquet")
      begin += each
  (path / "dataset.json").write_text(json.dumps({"labels": ["good", "bad"]}))
  return path


def empty_part(path):
  pq.write_table(pa.Table.from_pylist([], SCHEMA), path)


def read(path, split="train"):
  parts = sorted((path / split).glob("*.parquet"))
  return pa.concat_tables([pq.read_table(part) for part in parts])


def views(path, kind):
  """Row by row the texts of the views of one kind."""
  column = read(path)["views"].to_pylist()
  return [[v["text"] for v in some or () if v["kind"] == kind] for some in column]


def report(path, kind="mine"):
  return json.loads((path / "augment" / f"{kind}.json").read_text())


def dropped(path, kind="mine"):
  return pq.read_table(path / "augment" / f"{kind}-dropped.parquet").to_pylist()


def start(data, function, *more, **environment):
  """The command with the custom engine; its cache stands beside the folder."""
  return subprocess.Popen(
    [
      sys.executable,
      "-m",
      "ssljax.augment",
      f"--config={ROOT}/configs/augment/custom.py",
      f"--data={data}",
      f"--config.function=tests.augment.doubles:{function}",
      "--config.kind=mine",
      "--config.shard=8",
      "--config.batch=1",
      *more,
    ],
    cwd=ROOT,
    env={
      **os.environ,
      "SSLJAX_CACHE": str(data.parent / "cache"),
      "NOTE": str(data.parent / "note"),
      **environment,
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    process_group=0,
  )


def run(data, function, *more, **environment):
  process = start(data, function, *more, **environment)
  printed, _ = process.communicate(timeout=120)
  return process.returncode, printed


def noted(data):
  """The texts that the double was asked for, one by one."""
  path = data.parent / "note"
  return path.read_text().splitlines() if path.exists() else []

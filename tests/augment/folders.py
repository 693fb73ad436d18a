"""Dataset folders of made-up texts, and what is in them after a run."""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records.schema import SCHEMA

TEXTS = 40  # in the train split of the fixture `data`
OLD_VIEW = {"kind": "old", "text": "an older view", "response": None, "origin": "x:1"}


def make_rows(count, begin=0, response=False, unlabelled=True):
  return [
    {
      "id": f"row-{i}",
      "text": f"how long must I bake loaf number {i}",
      "response": f"bake it for {i} long minutes" if response else None,
      "label": None if unlabelled and i % 3 == 2 else i % 2,
      "label_name": None,
      "category": None if i % 2 else "bread",
      "source": "made up",
      "views": [OLD_VIEW] if i % 4 == 0 else [] if i % 4 == 1 else None,
    }
    for i in range(begin, begin + count)
  ]


def make_folder(path, train=TEXTS, parts=2, response=False):
  """Writes a folder as `python -m ssljax.data.prepare` does, with train in parts."""
  begin = 0
  for split, count in {"train": train, "validation": 4, "test": 4}.items():
    (path / split).mkdir(parents=True)
    n = parts if split == "train" else 1
    for part in range(n):
      rows = make_rows(count // n, begin, response, split == "train")
      write_part(path / split / f"part-{part}.parquet", rows)
      begin += count // n
  (path / "dataset.json").write_text(json.dumps({"labels": ["good", "bad"]}))
  return path


def write_part(path, rows):
  pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)


def read_train(path):
  parts = sorted((path / "train").glob("*.parquet"))
  return pa.concat_tables([pq.read_table(part) for part in parts])


def read_views(path, kind="mine"):
  """The texts of the views of one kind, a list for each row of train."""
  column = read_train(path)["views"].to_pylist()
  return [[v["text"] for v in views or () if v["kind"] == kind] for views in column]


def read_report(path, kind="mine"):
  return json.loads((path / "augment" / f"{kind}.json").read_text())


def read_dropped(path, kind="mine"):
  return pq.read_table(path / "augment" / f"{kind}-dropped.parquet").to_pylist()


def hash_files(folder):
  """The hash of each file in the folder."""
  return {
    str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
    for p in sorted(folder.rglob("*"))
    if p.is_file()
  }


def leftovers(data):
  """Names beside the folder that a run shouldn't leave there."""
  expected = {"data", "cache", "queries"}
  return {p.name for p in data.parent.iterdir()} - expected


def reverse_words(text):
  return " ".join(text.split()[::-1])

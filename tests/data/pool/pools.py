"""Random datasets for the tests of token stores."""

import json
from concurrent.futures import Future

import numpy as np

from ssljax.errors import UserError
from tests import tiny


def random_rows(rng, name, count, labelled=0.7):
  """Rows with few words, so that texts repeat; some are pairs, some have views."""
  text = lambda: " ".join(rng.choice(tiny.WORDS, rng.integers(1, 4)))
  rows = []
  for i in range(count):
    row = {"text": text()}
    if rng.random() < 0.3:
      row["id"] = f"{name}-{i}"
    if rng.random() < 0.4:
      row["response"] = text()
    if i < 2 or rng.random() < labelled:
      row["label"] = i % 2
      row["label_name"] = ("no", "yes")[row["label"]]
    views = [
      {
        "kind": str(rng.choice(["llm", "back"])),
        "text": text(),
        "response": text() if rng.random() < 0.3 else None,
        "origin": "fallback:self" if rng.random() < 0.2 else "",
      }
      for _ in range(rng.integers(0, 4))
    ]
    rows.append({**row, "views": views})
  return rows


def write(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("\n".join(map(json.dumps, rows)))


def write_folder(folder, seed, labelled=0.7):
  """Writes a dataset with two files of train; returns its path."""
  rng = np.random.default_rng(seed)
  for name, count in {"train/a": 35, "train/b": 20, "val": 6, "test": 6}.items():
    share = labelled if name.startswith("train") else 1.0
    rows = random_rows(rng, name, count, share)
    write(folder / f"{name}.jsonl", rows)
  return folder


class InThisProcess:
  """Takes the place of the pool of processes."""

  def __init__(self, processes):
    pass

  def submit(self, call, task):
    future = Future()
    try:
      future.set_result(call(task))
    except UserError as error:
      future.set_exception(error)
    return future

  def shutdown(self, **options):
    pass

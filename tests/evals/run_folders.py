"""Folders of finished runs, made without training: random logits, real files."""

import json
import zlib

import numpy as np

from ssljax.data.records import records
from ssljax.evals import evaluation
from ssljax.evals.predictions import write_predictions
from ssljax.runtime import json_files

EVIL = '<script>alert("x")</script><img src=x onerror=y>{{ 7919 * 7919 }}'


def changed(workdir, **options):
  """The folder, after options of its config were set."""
  config = json.loads((workdir / "config.json").read_text())
  json_files.write_json(workdir / "config.json", config | options)
  return workdir


def logits_of(random, label, classes, skill):
  logits = random.normal(size=(len(label), classes)) * 1.5
  logits[np.arange(len(label)), label] += skill
  return logits.astype(np.float32)


def run(
  workdir, method="fixmatch", seed=0, data="data", labels=200, skill=2.0, n=80,
  names=("fine", "harmful"), one_class=False, **more,
):  # fmt: skip
  """A folder as `main` leaves it, without checkpoints."""
  classes = len(names)
  workdir.mkdir(parents=True)
  texts = np.random.default_rng(zlib.crc32(data.encode()))
  random = np.random.default_rng([seed, len(method), labels])
  result = {
    "method": method, "step": 20, "steps": 30, "seed": seed, "labels": labels,
    "seconds": 60.0 + seed, "examples_per_second": 12.3, "device": "1 x cpu",
    "versions": {"jax": "0"}, "params_sha256": "p", "state_sha256": "s",
  }  # fmt: skip
  config = {
    "data": data, "labels": labels, "seed": seed, "select": "f1", "encoder": "enc",
    "max_length": 64, "head": "mlp", "method": {"name": method, **more},
    "resolved": {"labels": list(names)},
  }  # fmt: skip
  scored = []
  for split in ("validation", "test"):
    label = np.zeros(n, int) if one_class else texts.integers(0, classes, n)
    rows = records.from_rows(
      [
        {
          "id": f"{split}{i}",
          "text": f"{EVIL} text {i}",
          "response": EVIL if i % 2 else None,
          "label": int(c),
          "category": "</td><b>bold</b>" if i % 3 else "plain",
          "source": "here",
        }
        for i, c in enumerate(label)
      ]
    )
    logits = logits_of(random, label, classes, skill)
    scored.append(evaluation.scored(rows, logits, np.arange(n) < 3))
    path = workdir / "predictions" / f"{split}.parquet"
    write_predictions(path, rows, logits, 1.5)
  result |= evaluation.of_run(*scored)
  lines = [
    {"step": t, "split": "train", "loss": 1 / t, "labelled": 0.5 / t, "mask_rate": None}
    | ({"pseudo_label_accuracy": 0.7, "mask_rate": t / 30} if t > 5 else {})
    | {"mask_rate.0": 0.1, "mask_rate.1": 0.2, "cut_off": 0.5 + t / 100}
    for t in range(5, 31, 5)
  ]
  lines += [
    {"step": t, "split": "validation", "f1": t / 40, "auroc": None, "accuracy": 0.5}
    for t in (10, 20, 30)
  ]
  (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
  json_files.write_json(workdir / "config.json", config)
  json_files.write_json(workdir / "result.json", result)
  return workdir

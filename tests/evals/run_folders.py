"""Makes folders of finished runs without training: random logits, real files."""

import functools
import json
import zlib

import numpy as np

from ssljax.config import KEYS
from ssljax.data.records import records
from ssljax.evals import evaluation
from ssljax.evals.predictions import write_predictions
from ssljax.evals.scored import ScoredTexts
from ssljax.runtime.json_files import write_json

MARKUP = '<script>alert("x")</script><img src=x onerror=y>{{ 7919 * 7919 }}'


def make_logits(random, label, classes, skill):
  logits = random.normal(size=(len(label), classes)) * 1.5
  logits[np.arange(len(label)), label] += skill
  return logits.astype(np.float32)


@functools.cache
def score_texts(random_seed, data, skill, n, names, one_class):
  """Rows and logits of validation and test, and the metrics in result.json."""
  label_random = np.random.default_rng(zlib.crc32(data.encode()))
  random = np.random.default_rng(random_seed)
  splits = {}
  for split in ("validation", "test"):
    label = label_random.integers(0, len(names), n) * (not one_class)
    rows = records.from_rows(
      [
        {
          "id": f"{split}{i}",
          "text": f"{MARKUP} text {i}",
          "response": MARKUP if i % 2 else None,
          "label": int(c),
          "category": "</td><b>bold</b>" if i % 3 else "plain",
          "source": "here",
        }
        for i, c in enumerate(label)
      ]
    )
    splits[split] = rows, make_logits(random, label, len(names), skill)
  texts = (
    ScoredTexts.from_records(rows, logits, np.arange(n) < 3)
    for rows, logits in splits.values()
  )
  return splits, evaluation.run_metrics(*texts, KEYS["aims"].default)


def make_run(
  workdir, method="fixmatch", seed=0, data="data", labels=200, skill=2.0, n=80,
  names=("fine", "harmful"), one_class=False, **keywords,
):  # fmt: skip
  """A folder as `main` leaves it, without checkpoints.

  Args:
    skill: added to the logit of the right class.
    n: texts of validation and of test; the same for all runs on `data`.
    one_class: whether all texts have label 0.
    **keywords: of the method, in the config.
  """
  workdir.mkdir(parents=True)
  random_seed = (seed, len(method), labels)
  splits, metrics = score_texts(random_seed, data, skill, n, names, one_class)
  for split, (rows, logits) in splits.items():
    path = workdir / "predictions" / f"{split}.parquet"
    write_predictions(path, rows, logits, 1.5)
  result = {
    "method": method, "step": 20, "steps": 30, "seed": seed, "labels": labels,
    "seconds": 60.0 + seed, "examples_per_second": 12.3, "device": "1 x cpu",
    "versions": {"jax": "0"}, "params_sha256": "p", "state_sha256": "s",
  }  # fmt: skip
  config = {
    "data": data, "labels": labels, "seed": seed, "select": "f1", "encoder": "enc",
    "max_length": 64, "head": "mlp", "method": {"name": method, **keywords},
    "resolved": {"labels": list(names)},
  }  # fmt: skip
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
  write_json(workdir / "config.json", config)
  write_json(workdir / "result.json", result | metrics)
  return workdir


def change_config(workdir, **options):
  config = json.loads((workdir / "config.json").read_text())
  write_json(workdir / "config.json", config | options)
  return workdir


def change_result(workdir, **values):
  result = json.loads((workdir / "result.json").read_text())
  write_json(workdir / "result.json", result | values)
  return workdir

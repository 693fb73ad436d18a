"""The table of what a model said of each text, with the texts themselves."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records.records import Records
from ssljax.evals.classification import HARMFUL, softmax

PREDICTIONS = "predictions.parquet"  # of an evaluation
COLUMNS = ("text", "response", "category", "source")  # of the record, kept beside


def score_of(logits: np.ndarray, temperature: float) -> np.ndarray:
  """f64 [n], the calibrated probability of the harmful class, or with more than two
  classes that of the predicted one."""
  probability = softmax(logits, temperature)
  return probability[:, HARMFUL] if logits.shape[1] == 2 else probability.max(-1)


def write_predictions(
  path: Path, rows: Records, logits: np.ndarray, temperature: float = 1.0
) -> None:
  """Writes `id`, `label`, `score`, `logits` and COLUMNS, whole or not at all.

  Args:
    rows: n labelled texts.
    logits: f32 [n, C].
    temperature: of the score; the logits are written as they are.
  """
  columns = {
    "id": rows.table["id"],
    "label": pa.array(rows.label, pa.int64()),
    "score": pa.array(score_of(logits, temperature), pa.float64()),
    "logits": pa.array(list(logits), pa.list_(pa.float32())),
    **{name: rows.table[name] for name in COLUMNS},
  }
  path.parent.mkdir(parents=True, exist_ok=True)
  fresh = path.with_name(f".new-{path.name}")
  pq.write_table(pa.table(columns), fresh, compression="zstd")
  os.replace(fresh, path)

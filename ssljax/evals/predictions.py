"""The table of what a model said of each text."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.evals.classification import HARMFUL, softmax


def write_predictions(
  path: Path, ids: Sequence[str], label: np.ndarray, logits: np.ndarray
) -> None:
  """Writes `id`, `label`, `score`, `logits` as Parquet, whole or not at all.

  `score` is the probability of the harmful class, or with more than two classes that
  of the predicted one. label i64 [n], logits f32 [n, C].
  """
  probability = softmax(logits)
  score = probability[:, HARMFUL] if logits.shape[1] == 2 else probability.max(-1)
  table = pa.table(
    {
      "id": pa.array(ids, pa.string()),
      "label": pa.array(label, pa.int64()),
      "score": pa.array(score, pa.float64()),
      "logits": pa.array(list(logits), pa.list_(pa.float32())),
    }
  )
  path.parent.mkdir(parents=True, exist_ok=True)
  fresh = path.with_name(f".new-{path.name}")
  pq.write_table(table, fresh)
  os.replace(fresh, path)

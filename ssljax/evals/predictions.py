"""Writes and reads predictions, together with their texts."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.data.records.records import Records
from ssljax.errors import UserError
from ssljax.evals.classification import score_of, softmax
from ssljax.runtime.atomic import atomic_path

PREDICTIONS = "predictions.parquet"  # in the folder of an evaluation
COLUMNS = ("text", "response", "category", "source")  # copied from the records


class Predictions(NamedTuple):
  """The predictions for n texts."""

  id: list[str]
  label: np.ndarray  # i64 [n]
  score: np.ndarray  # f64 [n], calibrated
  logits: np.ndarray  # f32 [n, C]
  text: list[str]
  response: list[str | None]


def write_predictions(
  path: Path, rows: Records, logits: np.ndarray, temperature: float = 1.0
) -> None:
  """Writes `id`, `label`, `score`, `logits` and COLUMNS atomically, as Parquet.

  Args:
    path: file to write.
    rows: n labelled texts.
    logits: f32 [n, C], written unchanged.
    temperature: divides the logits before the score is computed.
  """
  columns = {
    "id": rows.table["id"],
    "label": pa.array(rows.label, pa.int64()),
    "score": pa.array(score_of(softmax(logits, temperature)), pa.float64()),
    "logits": pa.array(list(logits), pa.list_(pa.float32())),
    **{name: rows.table[name] for name in COLUMNS},
  }
  with atomic_path(path) as temporary:
    pq.write_table(pa.table(columns), temporary, **files.PARQUET)


def read_predictions(path: Path) -> Predictions:
  """Reads a file that `write_predictions` wrote; raises UserError if it can't."""
  try:
    table = files.open_parquet(path).read()
    logits = np.stack(table["logits"].to_numpy(zero_copy_only=False))
    label, score = table["label"].to_numpy(), table["score"].to_numpy()
    texts = (table[name].to_pylist() for name in ("text", "response"))
    return Predictions(table["id"].to_pylist(), label, score, logits, *texts)
  except (OSError, ValueError, KeyError, pa.ArrowException) as error:
    raise UserError(f"{path}: cannot be read ({error})") from None

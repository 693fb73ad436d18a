"""The table of predictions: its columns, and that it is written atomically."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.data.records import records
from ssljax.errors import UserError
from ssljax.evals import predictions
from ssljax.evals.classification import softmax


def random_logits(classes: int, rows: int):
  random = np.random.default_rng(classes)
  logits = random.normal(size=(rows, classes)).astype(np.float32)
  return logits, random.integers(0, classes, rows)


def make_records(label):
  return records.from_rows(
    [
      {"id": f"row-{i}", "text": f"text {i}", "label": int(n), "source": "s"}
      for i, n in enumerate(label)
    ]
  )


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_table_contains_every_text_in_order_with_its_score(
  classes, temperature, tmp_path
):
  logits, label = random_logits(classes, 20)
  path = tmp_path / "predictions" / "test.parquet"
  predictions.write_predictions(path, make_records(label), logits, temperature)
  table = pq.read_table(path)
  assert dict(zip(table.column_names, table.schema.types, strict=True)) == {
    "id": pa.large_string(),
    "label": pa.int64(),
    "score": pa.float64(),
    "logits": pa.list_(pa.field("element", pa.float32())),
    **dict.fromkeys(("text", "response", "category", "source"), pa.large_string()),
  }
  probability = softmax(logits, temperature)
  # Of the harmful class; with more than two classes, of the predicted one.
  score = probability[:, 1] if classes == 2 else probability.max(1)
  saved = predictions.read_predictions(path)
  assert saved.id == [f"row-{i}" for i in range(20)]
  assert saved.text == [f"text {i}" for i in range(20)]
  assert saved.label.tolist() == label.tolist()
  np.testing.assert_array_equal(saved.logits, logits)
  np.testing.assert_allclose(saved.score, score, rtol=1e-12)


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
  logits, label = random_logits(2, 4)
  path = tmp_path / "test.parquet"
  predictions.write_predictions(path, make_records(label), logits)
  before = path.read_bytes()

  def fail(table, where, **_):
    where.write_bytes(b"PAR1")
    raise OSError("disk full")

  monkeypatch.setattr(predictions.pq, "write_table", fail)
  with pytest.raises(OSError, match="disk full"):
    predictions.write_predictions(path, make_records(label), -logits)
  assert path.read_bytes() == before
  assert list(tmp_path.iterdir()) == [path]


def test_a_flipped_bit_is_never_read_as_another_score(tmp_path):
  logits, label = random_logits(2, 20)
  path = tmp_path / "test.parquet"
  predictions.write_predictions(path, make_records(label), logits)
  content, before = path.read_bytes(), predictions.read_predictions(path)
  for i in range(0, len(content), 7):
    flipped = bytearray(content)
    flipped[i] ^= 1 << (i % 8)
    path.write_bytes(flipped)
    try:
      after = predictions.read_predictions(path)
    except UserError:
      continue
    assert [np.asarray(v).tolist() for v in after] == [
      np.asarray(v).tolist() for v in before
    ]

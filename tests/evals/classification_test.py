"""Metrics and the table of predictions, against counts and sums in plain NumPy."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.data import records
from ssljax.evals import predictions
from ssljax.evals.classification import classification, softmax

NAMES = [
  *("accuracy", "balanced_accuracy", "precision", "recall", "f1", "macro_f1"),
  *("auroc", "auprc"),
]


def drawn(seed: int, classes: int, rows: int = 60):
  """Logits out of a small pool, so that texts tie, and labels that lean on them."""
  random = np.random.default_rng(seed)
  pool = np.round(random.normal(size=(12, classes)) * 8) / 4  # classes tie, too
  logits = pool[random.integers(len(pool), size=rows)].astype(np.float32)
  noisy = logits + random.normal(size=logits.shape) * 1.5
  return logits, noisy.argmax(-1)


def counts(predicted, label, c: int) -> tuple[float, float, float]:
  """Precision, recall and F1 of class c; 0 where nothing defines one."""
  tp = fp = fn = 0
  for guess, truth in zip(predicted, label, strict=True):
    tp += guess == c and truth == c
    fp += guess == c and truth != c
    fn += guess != c and truth == c
  share = lambda part, whole: part / whole if whole else 0.0
  return share(tp, tp + fp), share(tp, tp + fn), share(2 * tp, 2 * tp + fp + fn)


def right_pairs(score, positive) -> float:
  """The share of (positive, negative) pairs in the right order; a tie is a half."""
  pairs = [(a > b) + (a == b) / 2 for a in score[positive] for b in score[~positive]]
  return sum(pairs) / len(pairs)


def average_precision(score, positive) -> float:
  """Sum over thresholds of (recall gained) * precision, without interpolation."""
  total = before = 0.0
  for threshold in sorted(set(score), reverse=True):
    above = score >= threshold
    recall = positive[above].sum() / positive.sum()
    total += (recall - before) * positive[above].mean()
    before = recall
  return total


def expected(logits, label) -> dict[str, float]:
  """The metrics of a set in which every class has a text."""
  classes = logits.shape[1]
  predicted = [max(range(classes), key=lambda c: (row[c], -c)) for row in logits]
  powers = np.exp(np.float64(logits))
  # Rounded: texts whose classes lie equally far apart tie.
  probability = np.round(powers / powers.sum(1, keepdims=True), 12)
  each = [
    (
      *counts(predicted, label, c),
      right_pairs(probability[:, c], label == c),
      average_precision(probability[:, c], label == c),
    )
    for c in range(classes)
  ]
  chosen = each[1] if classes == 2 else np.mean(each, axis=0)
  macro_f1 = np.mean([f1 for _, _, f1, _, _ in each])
  accuracy = np.mean(np.array(predicted) == label)
  balanced = np.mean([recall for _, recall, *_ in each])
  precision, recall, f1, auroc, auprc = chosen
  found = (accuracy, balanced, precision, recall, f1, macro_f1, auroc, auprc)
  return dict(zip(NAMES, found, strict=True))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_metrics_equal_counts_over_texts_and_pairs(classes, seed):
  logits, label = drawn(seed, classes)
  assert set(label) == set(range(classes))
  found = classification(logits, label)
  assert list(found) == NAMES
  assert {type(value) for value in found.values()} == {float}
  assert found == pytest.approx(expected(logits, label), abs=1e-12)


def test_the_harmful_class_is_the_second():
  # One of two harmful texts is found, and nothing else is called harmful.
  logits = np.array([[2, 0], [1, 0], [3, 0], [0, 1]], np.float32)
  found = classification(logits, np.array([0, 0, 1, 1]))
  assert (found["precision"], found["recall"]) == (1.0, 0.5)
  assert found["f1"] == pytest.approx(2 / 3)
  assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
  assert found["auroc"] == 0.5  # above neither, above both


@pytest.mark.parametrize(("classes", "only"), [(2, [0]), (2, [1]), (3, [0, 2])])
def test_what_the_labels_do_not_define_is_none(classes, only):
  logits, label = drawn(0, classes)
  keep = np.isin(label, only)
  found = classification(logits[keep], label[keep])
  assert found["auroc"] is found["auprc"] is None
  rest = {name: found[name] for name in NAMES[:6]}
  assert all(np.isfinite(value) for value in rest.values())
  json.dumps(found, allow_nan=False)


def test_a_class_without_text_or_guess_counts_as_zero():
  logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 1]]
  found = classification(logits, np.array([0, 0, 1, 1]))  # the third class is absent
  assert found["accuracy"] == 1
  for name in ("precision", "recall", "f1", "macro_f1"):
    assert found[name] == pytest.approx(2 / 3)
  never = classification(np.array([[1, 0]] * 3, np.float32), np.array([0, 1, 1]))
  assert (never["precision"], never["recall"], never["f1"]) == (0, 0, 0)
  assert never["auroc"] == 0.5


def test_softmax_of_large_logits_is_finite_and_keeps_sure_texts_apart():
  logits = np.array([[0, 20], [0, 30], [1e4, -1e4], [-1e4, 1e4]], np.float32)
  probability = softmax(logits)
  assert probability.dtype == np.float64
  np.testing.assert_allclose(probability.sum(-1), 1)
  assert probability[0, 1] < probability[1, 1]  # float32 would make both 1
  np.testing.assert_array_equal(probability[2:], [[1, 0], [0, 1]])


def rows_of(label):
  return records.from_rows(
    [
      {"id": f"row-{i}", "text": f"text {i}", "label": int(n), "source": "s"}
      for i, n in enumerate(label)
    ]
  )


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_table_holds_every_text_in_order_with_its_score(
  classes, temperature, tmp_path
):
  logits, label = drawn(1, classes, 20)
  path = tmp_path / "predictions" / "test.parquet"
  predictions.write_predictions(path, rows_of(label), logits, temperature)
  table = pq.read_table(path)
  text = pa.large_string()
  assert dict(zip(table.column_names, table.schema.types, strict=True)) == {
    "id": text,
    "label": pa.int64(),
    "score": pa.float64(),
    "logits": pa.list_(pa.field("element", pa.float32())),
    **dict.fromkeys(("text", "response", "category", "source"), text),
  }
  assert table["id"].to_pylist() == [f"row-{i}" for i in range(20)]
  assert table["text"].to_pylist() == [f"text {i}" for i in range(20)]
  assert table["label"].to_pylist() == label.tolist()
  np.testing.assert_array_equal(table["logits"].to_pylist(), logits)
  powers = np.exp(np.float64(logits) / temperature)
  probability = powers / powers.sum(1, keepdims=True)
  # Of the harmful class; with more than two classes of the one that is predicted.
  score = probability[:, 1] if classes == 2 else probability.max(1)
  np.testing.assert_allclose(table["score"].to_numpy(), score, rtol=1e-12)


def test_the_table_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
  logits, label = drawn(2, 2, 4)
  path = tmp_path / "test.parquet"
  predictions.write_predictions(path, rows_of(label), logits)
  assert list(tmp_path.iterdir()) == [path]
  before = path.read_bytes()

  def torn(table, where, **_):
    where.write_bytes(b"PAR1")
    raise OSError("disk full")

  monkeypatch.setattr(predictions.pq, "write_table", torn)
  with pytest.raises(OSError, match="disk full"):
    predictions.write_predictions(path, rows_of(label), -logits)
  assert path.read_bytes() == before

"""Metrics and the table of predictions, against counts and sums in plain NumPy."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.data.records import records
from ssljax.evals import predictions
from ssljax.evals.classification import (
  NOT_FLAGGED,
  by_class,
  classification,
  resampled,
  softmax,
  undefined,
)

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


@pytest.mark.parametrize(
  ("classes", "only", "lacking"),
  [
    (2, 0, {*NAMES} - {"accuracy"}),  # there is no harm to catch
    (2, 1, {"balanced_accuracy", "macro_f1", "auroc", "auprc"}),
    (3, 2, {*NAMES} - {"accuracy"}),
  ],
)
def test_what_one_class_does_not_define_is_none_with_a_reason(classes, only, lacking):
  logits, label = drawn(0, classes)
  keep = label == only
  found = classification(logits[keep], label[keep])
  assert {name for name, value in found.items() if value is None} == lacking
  assert {*undefined(logits[keep], label[keep])} == lacking
  counts = np.ones((1, keep.sum()))
  under = resampled(logits[keep], label[keep], [counts])
  assert {name for name, value in under.items() if np.isnan(value[0])} == lacking
  rest = {name: value for name, value in found.items() if name not in lacking}
  assert {name: under[name][0] for name in rest} == pytest.approx(rest)
  json.dumps(found, allow_nan=False)


def test_nothing_flagged_has_no_precision_and_catches_nothing():
  logits, label = np.array([[1, 0]] * 3, np.float32), np.array([0, 1, 1])
  never = classification(logits, label)
  assert (never["precision"], never["recall"], never["f1"]) == (None, 0, 0)
  assert undefined(logits, label) == {"precision": NOT_FLAGGED}
  assert never["auroc"] == 0.5
  assert [one["precision"] for one in by_class(logits, label)] == [1 / 3, None]


def test_means_are_over_the_classes_that_have_a_text():
  logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2]]
  label = np.array([0, 0, 1, 1, 1])  # the third class is absent, and guessed once
  found = classification(logits, label)
  assert found["recall"] == found["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
  assert found["precision"] == 1
  assert found["f1"] == found["macro_f1"] == pytest.approx((1 + 4 / 5) / 2)
  assert found["auroc"] == pytest.approx((1 + 5 / 6) / 2)  # of the two that are there
  under = resampled(logits, label, [np.ones((1, 5))])
  assert {name: value[0] for name, value in under.items()} == pytest.approx(found)
  absent = by_class(logits, label)[2]
  assert absent == {"precision": None, "recall": None, "f1": None, "support": 0}


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

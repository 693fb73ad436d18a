"""Metrics of a classifier from its logits, by scikit-learn's definitions.

`classification` gives the values of one set, by scikit-learn itself; `resampled` the
same metrics of many resamples of it at once, for intervals.
"""

from collections.abc import Iterable

import numpy as np
from sklearn import metrics

from ssljax.evals import bootstrap
from ssljax.evals.bootstrap import ratio

HARMFUL = 1  # the positive class of a two-class set
ONE_CLASS = "the labels are all of one class"
LACKING = "a class has no text"


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
  """f64 [n, C] of logits / temperature."""
  scaled = logits.astype(np.float64) / temperature
  exponential = np.exp(scaled - scaled.max(-1, keepdims=True))
  return exponential / exponential.sum(-1, keepdims=True)


def classification(logits: np.ndarray, label: np.ndarray) -> dict[str, float | None]:
  """The metrics that DESIGN names, of n texts.

  Precision, recall, F1, AUROC and AUPRC are of the harmful class where there are two
  classes, else the plain mean over the classes (AUROC one against the rest). A metric
  that the labels do not define, as AUROC with one class only, is None.

  Args:
    logits: f32 [n, C].
    label: i64 [n].
  """
  classes = logits.shape[-1]
  predicted = logits.argmax(-1)
  probability = softmax(logits)
  average = "binary" if classes == 2 else "macro"
  every = list(range(classes))
  options = {"zero_division": 0.0}
  several = options | {"labels": every, "average": "macro"}
  chosen = several if classes > 2 else options | {"pos_label": HARMFUL}
  chosen = chosen | {"average": average}
  present = np.unique(label)
  recalls = metrics.recall_score(
    label, predicted, labels=every, average=None, zero_division=0.0
  )
  found: dict[str, float | None] = {
    "accuracy": metrics.accuracy_score(label, predicted),
    "balanced_accuracy": recalls[present].mean(),
    "precision": metrics.precision_score(label, predicted, **chosen),
    "recall": metrics.recall_score(label, predicted, **chosen),
    "f1": metrics.f1_score(label, predicted, **chosen),
    "macro_f1": metrics.f1_score(label, predicted, **several),
    "auroc": None,
    "auprc": None,
  }
  if classes == 2 and len(present) == 2:
    score = probability[:, HARMFUL]
    found["auroc"] = metrics.roc_auc_score(label, score)
    found["auprc"] = metrics.average_precision_score(label, score)
  elif classes > 2 and len(present) == classes:
    hot = np.eye(classes, dtype=int)[label]
    found["auroc"] = metrics.roc_auc_score(hot, probability, average="macro")
    found["auprc"] = metrics.average_precision_score(hot, probability, average="macro")
  return {k: None if v is None else float(v) for k, v in found.items()}


def resampled(
  logits: np.ndarray, label: np.ndarray, blocks: Iterable[np.ndarray]
) -> dict[str, np.ndarray]:
  """Each metric of `classification`, [R], under counts [r, n] in blocks of R in all.

  NaN where a resample does not define a metric.
  """
  classes = logits.shape[-1]
  probability = softmax(logits)
  cell = label * classes + logits.argmax(-1)
  ranked = [HARMFUL] if classes == 2 else range(classes)
  rankings = [bootstrap.Ranking(probability[:, c], label == c) for c in ranked]
  found: list[dict[str, np.ndarray]] = []
  for counts in blocks:
    confusion = bootstrap.cells(counts, cell, classes**2)
    some = of_confusion(confusion.reshape(-1, classes, classes))
    ranks = np.array([ranking(counts) for ranking in rankings])  # [ranked, 2, r]
    some["auroc"], some["auprc"] = ranks.mean(0)
    found.append(some)
  return {name: np.concatenate([some[name] for some in found]) for name in found[0]}


def of_confusion(confusion: np.ndarray) -> dict[str, np.ndarray]:
  """The metrics that hang on counts of (label, prediction) only.

  Args:
    confusion: [R, C, C], rows are labels.

  Returns:
    [R] each; means over classes are over those of `classification`.
  """
  classes = confusion.shape[-1]
  right = np.diagonal(confusion, axis1=1, axis2=2)
  labelled, predicted = confusion.sum(2), confusion.sum(1)
  precision = ratio(right, predicted, 0.0)
  recall = ratio(right, labelled, 0.0)
  f1 = ratio(2 * right, labelled + predicted, 0.0)
  chosen = HARMFUL if classes == 2 else slice(None)

  def mean(values: np.ndarray) -> np.ndarray:
    return values[:, chosen] if classes == 2 else values.mean(1)

  return {
    "accuracy": ratio(right.sum(1), labelled.sum(1)),
    "balanced_accuracy": ratio(recall.sum(1), (labelled > 0).sum(1)),
    "precision": mean(precision),
    "recall": mean(recall),
    "f1": mean(f1),
    "macro_f1": f1.mean(1),
  }


def undefined(label: np.ndarray, classes: int) -> dict[str, str]:
  """Why a metric is None, by its name."""
  present = len(np.unique(label))
  if present == classes:
    return {}
  why = ONE_CLASS if present == 1 else LACKING
  return {"auroc": why, "auprc": why}


def by_class(logits: np.ndarray, label: np.ndarray) -> list[dict[str, float]]:
  """Precision, recall, F1 and the number of texts of each class."""
  classes = list(range(logits.shape[-1]))
  values = metrics.precision_recall_fscore_support(
    label, logits.argmax(-1), labels=classes, zero_division=0.0
  )
  return [
    {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
    for p, r, f, n in zip(*values, strict=True)
  ]


def confusion_matrix(logits: np.ndarray, label: np.ndarray) -> list[list[int]]:
  """Texts by (label, prediction); rows are labels."""
  classes = list(range(logits.shape[-1]))
  return metrics.confusion_matrix(label, logits.argmax(-1), labels=classes).tolist()

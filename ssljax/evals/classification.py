"""Metrics of a classifier from its logits, by scikit-learn's definitions."""

import numpy as np
from sklearn import metrics

HARMFUL = 1  # the positive class of a two-class set


def softmax(logits: np.ndarray) -> np.ndarray:
  """f64 [n, C]."""
  shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
  exponential = np.exp(shifted)
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
  found: dict[str, float | None] = {
    "accuracy": metrics.accuracy_score(label, predicted),
    "precision": metrics.precision_score(label, predicted, **chosen),
    "recall": metrics.recall_score(label, predicted, **chosen),
    "f1": metrics.f1_score(label, predicted, **chosen),
    "macro_f1": metrics.f1_score(label, predicted, **several),
    "auroc": None,
    "auprc": None,
  }
  present = np.unique(label)
  if classes == 2 and len(present) == 2:
    score = probability[:, HARMFUL]
    found["auroc"] = metrics.roc_auc_score(label, score)
    found["auprc"] = metrics.average_precision_score(label, score)
  elif classes > 2 and len(present) == classes:
    hot = np.eye(classes, dtype=int)[label]
    found["auroc"] = metrics.roc_auc_score(hot, probability, average="macro")
    found["auprc"] = metrics.average_precision_score(hot, probability, average="macro")
  return {k: None if v is None else float(v) for k, v in found.items()}

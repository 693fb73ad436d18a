"""Metrics of a classifier from its logits, by scikit-learn's definitions.

`classification` gives the values of one set, by scikit-learn itself; `resampled` the
same metrics of many resamples of it at once, for intervals.
"""

from collections.abc import Callable, Iterable

import numpy as np
from sklearn import metrics

from ssljax.evals import bootstrap
from ssljax.evals.bootstrap import ratio

HARMFUL = 1  # the positive class of a two-class set
ONE_CLASS = "the labels are all of one class"
NOT_HARMFUL = "no text is labelled as the harmful class"
NOT_FLAGGED = "no text was taken for the harmful class"


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
  """f64 [n, C] of logits / temperature."""
  scaled = logits.astype(np.float64) / temperature
  exponential = np.exp(scaled - scaled.max(-1, keepdims=True))
  return exponential / exponential.sum(-1, keepdims=True)


def classification(logits: np.ndarray, label: np.ndarray) -> dict[str, float | None]:
  """The metrics of result.json, of n texts.

  Precision, recall, F1, AUROC and AUPRC are of the harmful class where there are two
  classes, else the plain mean over the classes that have a text (AUROC one against the
  rest), as `balanced_accuracy` and `macro_f1` always are. In a mean a class that
  nothing was taken for has a precision of 0. What does not exist is None; `undefined`
  says why.

  Args:
    logits: f32 [n, C].
    label: i64 [n].
  """
  classes = logits.shape[-1]
  predicted = logits.argmax(-1)
  present = np.unique(label)
  lacking = undefined(logits, label)
  macro = {"labels": present, "average": "macro", "zero_division": 0.0}
  chosen = macro
  if classes == 2:
    chosen = {"pos_label": HARMFUL, "average": "binary", "zero_division": 0.0}
  ranked = [HARMFUL] if classes == 2 else present
  hot = (label[:, None] == ranked).astype(int)
  score = softmax(logits)[:, ranked]
  ways: dict[str, Callable[[], float]] = {
    "accuracy": lambda: metrics.accuracy_score(label, predicted),
    "balanced_accuracy": lambda: metrics.recall_score(label, predicted, **macro),
    "precision": lambda: metrics.precision_score(label, predicted, **chosen),
    "recall": lambda: metrics.recall_score(label, predicted, **chosen),
    "f1": lambda: metrics.f1_score(label, predicted, **chosen),
    "macro_f1": lambda: metrics.f1_score(label, predicted, **macro),
    "auroc": lambda: metrics.roc_auc_score(hot, score, average="macro"),
    "auprc": lambda: metrics.average_precision_score(hot, score, average="macro"),
  }
  return {name: None if name in lacking else float(of()) for name, of in ways.items()}


def undefined(logits: np.ndarray, label: np.ndarray) -> dict[str, str]:
  """Why a metric of `classification` is None, by its name."""
  found: dict[str, str] = {}
  if len(np.unique(label)) == 1:
    means = ("balanced_accuracy", "macro_f1", "auroc", "auprc")
    found = dict.fromkeys(means, ONE_CLASS)
  if logits.shape[-1] > 2:
    return found | dict.fromkeys(
      ("precision", "recall", "f1") if found else (), ONE_CLASS
    )
  if not (label == HARMFUL).any():
    found |= dict.fromkeys(("precision", "recall", "f1"), NOT_HARMFUL)
  elif not (logits.argmax(-1) == HARMFUL).any():
    found["precision"] = NOT_FLAGGED
  return found


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
    known = ~np.isnan(ranks)  # not so is a class that was not drawn
    means = ratio(np.where(known, ranks, 0).sum(0), known.sum(0))
    some["auroc"], some["auprc"] = means
    found.append(some)
  return {name: np.concatenate([some[name] for some in found]) for name in found[0]}


def of_confusion(confusion: np.ndarray) -> dict[str, np.ndarray]:
  """The metrics that hang on counts of (label, prediction) only.

  Args:
    confusion: [R, C, C], rows are labels.

  Returns:
    [R] each, as `classification` has them, and NaN where that has None.
  """
  right = np.diagonal(confusion, axis1=1, axis2=2)
  labelled, predicted = confusion.sum(2), confusion.sum(1)
  present = labelled > 0
  precision = ratio(right, predicted, 0.0)
  recall = ratio(right, labelled, 0.0)
  f1 = ratio(2 * right, labelled + predicted, 0.0)

  def macro(values: np.ndarray) -> np.ndarray:
    many = present.sum(1)
    return ratio((values * present).sum(1), np.where(many > 1, many, 0))

  found = {
    "accuracy": ratio(right.sum(1), labelled.sum(1)),
    "balanced_accuracy": macro(recall),
    "precision": macro(precision),
    "recall": macro(recall),
    "f1": macro(f1),
    "macro_f1": macro(f1),
  }
  if confusion.shape[-1] == 2:
    some = present[:, HARMFUL]
    flagged = predicted[:, HARMFUL] > 0
    found["precision"] = np.where(some & flagged, precision[:, HARMFUL], np.nan)
    found["recall"] = np.where(some, recall[:, HARMFUL], np.nan)
    found["f1"] = np.where(some, f1[:, HARMFUL], np.nan)
  return found


def by_class(logits: np.ndarray, label: np.ndarray) -> list[dict[str, float | None]]:
  """Precision, recall, F1 and the number of texts (`support`) of each class.

  None: the precision of a class that nothing was taken for, and all three of a class
  without a text.
  """
  predicted, every = logits.argmax(-1), list(range(logits.shape[-1]))
  values = metrics.precision_recall_fscore_support(
    label, predicted, labels=every, zero_division=0.0
  )
  found = []
  for c, (p, r, f, n) in enumerate(zip(*values, strict=True)):
    known = bool(n)
    found.append(
      {
        "precision": float(p) if known and (predicted == c).any() else None,
        "recall": float(r) if known else None,
        "f1": float(f) if known else None,
        "support": int(n),
      }
    )
  return found


def confusion_matrix(logits: np.ndarray, label: np.ndarray) -> list[list[int]]:
  """Texts by (label, prediction); rows are labels."""
  classes = list(range(logits.shape[-1]))
  return metrics.confusion_matrix(label, logits.argmax(-1), labels=classes).tolist()

"""Computes classification metrics from logits, with scikit-learn's definitions.

`classification_metrics` computes the metrics of one set with scikit-learn itself.
`resampled_metrics` computes them for many resamples at once, for bootstrap intervals.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from scipy import special
from sklearn import metrics

from ssljax.evals.bootstrap import RankingMetrics, ratio

METRICS = (
  *("accuracy", "balanced_accuracy", "precision", "recall", "f1", "macro_f1"),
  *("auroc", "auprc"),
)
HARMFUL = 1  # the positive class of a two-class set
ONE_CLASS = "all labels belong to one class"
NOT_HARMFUL = "no text is labelled as harmful"
NOT_FLAGGED = "no text was classified as harmful"


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
  """softmax(logits / temperature), f64 [n, C]."""
  return special.softmax(logits.astype(np.float64) / temperature, axis=-1)


def score_of(probability: np.ndarray) -> np.ndarray:
  """The scores of n texts, f64 [n], from their class probabilities, f64 [n, C].

  With two classes, the score is the probability of the harmful class. With more, it is
  the probability of the predicted class.
  """
  two_classes = probability.shape[1] == 2
  return probability[:, HARMFUL] if two_classes else probability.max(1)


def classification_metrics(
  logits: np.ndarray, label: np.ndarray
) -> dict[str, float | None]:
  """The metrics of n texts by name, in the order of METRICS.

  With two classes, precision, recall, F1, AUROC and AUPRC refer to the harmful class.
  With more, they are unweighted means over the classes that occur in `label`; AUROC and
  AUPRC rank each class against the rest. `balanced_accuracy` and `macro_f1` are always
  such means. In a mean, a class that was never predicted has a precision of 0.
  An undefined metric is None; `undefined_reasons` says why.

    >>> logits = np.array([[2, 0], [0, 1], [3, 0]], np.float32)
    >>> classification_metrics(logits, np.array([0, 1, 1]))["recall"]
    0.5

  Args:
    logits: f32 [n, C].
    label: i64 [n].
  """
  predicted, ranked = logits.argmax(-1), np.unique(label)
  support = partial(
    metrics.precision_recall_fscore_support, label, predicted, zero_division=0.0
  )
  average = macro = support(labels=ranked, average="macro")
  if logits.shape[-1] == 2:
    average, ranked = support(pos_label=HARMFUL, average="binary"), [HARMFUL]
  values = {
    "accuracy": metrics.accuracy_score(label, predicted),
    "balanced_accuracy": macro[1],
    **dict(zip(("precision", "recall", "f1"), average, strict=False)),
    "macro_f1": macro[2],
  }
  undefined = undefined_reasons(logits, label)
  if "auroc" not in undefined:
    one_hot, score = (label[:, None] == ranked).astype(int), softmax(logits)[:, ranked]
    values["auroc"] = metrics.roc_auc_score(one_hot, score)
    values["auprc"] = metrics.average_precision_score(one_hot, score)
  return {name: None if name in undefined else float(values[name]) for name in METRICS}


def undefined_reasons(logits: np.ndarray, label: np.ndarray) -> dict[str, str]:
  """Maps each metric that `classification_metrics` cannot define to the reason."""
  means = ("balanced_accuracy", "macro_f1", "auroc", "auprc")
  rates = ("precision", "recall", "f1")
  two_classes = logits.shape[-1] == 2
  reasons: dict[str, str] = {}
  if len(np.unique(label)) == 1:
    reasons = dict.fromkeys(means if two_classes else means + rates, ONE_CLASS)
  if two_classes and not (label == HARMFUL).any():
    reasons |= dict.fromkeys(rates, NOT_HARMFUL)
  elif two_classes and not (logits.argmax(-1) == HARMFUL).any():
    reasons["precision"] = NOT_FLAGGED
  return reasons


def resampled_metrics(
  logits: np.ndarray, label: np.ndarray, blocks: Iterable[np.ndarray]
) -> dict[str, np.ndarray]:
  """The metrics of `classification_metrics` for R resamples, f64 [R] each.

  A metric is NaN in resamples that don't define it.

  Args:
    logits: f32 [n, C].
    label: i64 [n].
    blocks: arrays of counts [r, n] with R rows in total, as `bootstrap.draw_resamples`
      yields them.
  """
  classes = logits.shape[-1]
  probability = softmax(logits)
  cells = np.eye(classes**2)[label * classes + logits.argmax(-1)]
  ranked = [HARMFUL] if classes == 2 else range(classes)
  rankings = [RankingMetrics(probability[:, c], label == c) for c in ranked]
  by_block: list[dict[str, np.ndarray]] = []
  for counts in blocks:
    values = confusion_metrics((counts @ cells).reshape(-1, classes, classes))
    ranks = np.array([ranking(counts) for ranking in rankings])  # [ranked, 2, r]
    drawn = ~np.isnan(ranks)  # NaN: the class was not drawn
    values["auroc"], values["auprc"] = ratio(
      np.where(drawn, ranks, 0).sum(0), drawn.sum(0)
    )
    by_block.append(values)
  return {
    name: np.concatenate([values[name] for values in by_block]) for name in by_block[0]
  }


def confusion_metrics(confusion: np.ndarray) -> dict[str, np.ndarray]:
  """The metrics of `classification_metrics` except AUROC and AUPRC, f64 [R] each.

  An undefined metric is NaN. In `confusion` [R, C, C], axis 1 is the label and axis 2
  is the prediction.
  """
  correct = np.diagonal(confusion, axis1=1, axis2=2)
  labelled, predicted = confusion.sum(2), confusion.sum(1)
  present = labelled > 0
  count = present.sum(1)
  precision = ratio(correct, predicted, 0.0)
  recall = ratio(correct, labelled, 0.0)
  f1 = ratio(2 * correct, labelled + predicted, 0.0)

  def macro(values: np.ndarray) -> np.ndarray:
    return ratio((values * present).sum(1), np.where(count > 1, count, 0))

  if confusion.shape[-1] == 2:
    harmful, flagged = present[:, HARMFUL], predicted[:, HARMFUL] > 0
    average = lambda values: np.where(harmful, values[:, HARMFUL], np.nan)
    mean_precision = np.where(flagged, average(precision), np.nan)
  else:
    average, mean_precision = macro, macro(precision)
  return {
    "accuracy": ratio(correct.sum(1), labelled.sum(1)),
    "balanced_accuracy": macro(recall),
    "precision": mean_precision,
    "recall": average(recall),
    "f1": average(f1),
    "macro_f1": macro(f1),
  }


def ranking_warning(values: Mapping[str, Any], texts: str) -> str:
  """A warning if the AUROC is clearly below 0.5; otherwise "".

  Args:
    values: `auroc` and `auroc_interval`, as in result.json.
    texts: what the metrics were measured on, such as "validation".
  """
  interval = values["auroc_interval"]
  if not interval or interval[1] >= 0.5:
    return ""
  return (
    f"warning: the AUROC on {texts} is {values['auroc']:.3f}, clearly below 0.5: the "
    "scores rank the texts the wrong way round; check that the labels there mean the "
    "same as those in train"
  )


def per_class_metrics(
  logits: np.ndarray, label: np.ndarray
) -> list[dict[str, float | None]]:
  """Precision, recall, F1 and the number of texts (`support`) of each class.

  Precision is None for a class that was never predicted. For a class without texts,
  precision, recall and F1 are None.
  """
  predicted, classes = logits.argmax(-1), list(range(logits.shape[-1]))
  columns = metrics.precision_recall_fscore_support(
    label, predicted, labels=classes, zero_division=0.0
  )
  return [
    {
      "precision": float(precision) if support and (predicted == c).any() else None,
      "recall": float(recall) if support else None,
      "f1": float(f1) if support else None,
      "support": int(support),
    }
    for c, (precision, recall, f1, support) in enumerate(zip(*columns, strict=True))
  ]


def confusion_matrix(logits: np.ndarray, label: np.ndarray) -> list[list[int]]:
  """The number of texts by (label, prediction); rows are labels."""
  classes = list(range(logits.shape[-1]))
  return metrics.confusion_matrix(label, logits.argmax(-1), labels=classes).tolist()

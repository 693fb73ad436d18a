"""Finds labels that the model doubts, by confident learning.

Northcutt, Jiang & Chuang, 2021, arXiv 1911.00068. A text is doubted if a class other
than its label is confidently predicted: its probability is at least the average that
this class has among texts with this label, and no other such class is more probable.

Predictions must be out of sample: a model that was trained on a wrong label repeats it.
For the labelled texts of train they come from k folds of a logistic regression on the
embeddings of the pretrained encoder, which has seen no label. The encoder of the run
has seen all of them. For validation and test, they are the run's own predictions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ssljax.data import split
from ssljax.data.batches import tokenize
from ssljax.data.records.records import Records, Splits
from ssljax.errors import UserError
from ssljax.evals.classification import softmax
from ssljax.evals.runs import read_run
from ssljax.inference.classifier import SafetyClassifier
from ssljax.inference.load import TrainedModel
from ssljax.inference.outputs import make_step
from ssljax.models import load_params
from ssljax.models.classifier import Classifier
from ssljax.selection.choose import predict
from ssljax.selection.pool import labelled_rows

FOLDS = 5
STRENGTH = 10.0  # `C` of the logistic regression, for embeddings of norm 1


class Doubt(NamedTuple):
  """A text whose label is doubted."""

  split: str
  row: int
  label: int
  suggested: int
  probability: np.ndarray  # f64 [C]
  typical: np.ndarray  # f64 [C], the average probability of each class in its own texts


def find_doubts(probability: np.ndarray, label: np.ndarray) -> list[tuple[int, int]]:
  """Applies confident learning to predictions that are out of sample.

  >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1]])
  >>> find_doubts(p, np.array([0, 0, 1, 1]))
  [(3, 0)]

  Args:
    probability: f64 [n, C].
    label: i64 [n], the given labels.

  Returns:
    (row, suggested class), the most doubtful first: by the probability of the label
    minus that of the suggested class.
  """
  confident = probability >= typical_probability(probability, label)
  suggested = np.where(confident, probability, -1).argmax(1)
  doubted = np.flatnonzero(confident.any(1) & (suggested != label))
  gap = probability[doubted, label[doubted]] - probability[doubted, suggested[doubted]]
  order = doubted[np.argsort(gap, kind="stable")]
  return [(int(row), int(suggested[row])) for row in order]


def typical_probability(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
  """The average probability of each class among texts with this label, f64 [C].

  Infinity for a class without texts: it is never suggested.
  """
  typical = np.full(probability.shape[1], np.inf)
  for c in np.unique(label):
    typical[c] = probability[label == c, c].mean()
  return typical


def cross_validated(
  embedding: np.ndarray,
  label: np.ndarray,
  group: np.ndarray,
  classes: int,
  seed: int,
) -> np.ndarray:
  """Probabilities f64 [n, C] from models that were not trained on the text.

  Args:
    embedding: f32 [n, D], rows of norm 1.
    label: i64 [n].
    group: i64 [n], the same for copies of a text.
  """
  from sklearn.linear_model import LogisticRegression
  from sklearn.model_selection import StratifiedKFold

  _, first, text = np.unique(group, return_index=True, return_inverse=True)
  smallest = int(np.bincount(label[first], minlength=classes).min())
  if smallest < 2:
    raise UserError(
      f"--doubts: a class has {smallest} different labelled texts; cross-validation "
      "needs 2 or more of each class"
    )
  folds = StratifiedKFold(min(FOLDS, smallest), shuffle=True, random_state=seed)
  probability = np.zeros((len(label), classes))
  for _, held_out in folds.split(first, label[first]):
    held_out = np.isin(text, held_out)
    model = LogisticRegression(C=STRENGTH, max_iter=2000)
    model.fit(embedding[~held_out], label[~held_out])
    predicted = model.predict_proba(embedding[held_out])
    probability[np.ix_(held_out, model.classes_)] = predicted
  return probability


def doubts_of_run(
  trained: TrainedModel, classifier: SafetyClassifier, splits: Splits, seed: int
) -> tuple[list[Doubt], dict[str, Records], list[str]]:
  """All doubts about the labels of a run's data.

  Returns:
    (doubts, records by split, notes for the log): train comes first, then validation,
    what the run held back of it (`calibration`), and test, each with the most doubtful
    first.

  Raises:
    UserError: a class with fewer than 2 labelled texts; unreadable predictions.
  """
  records = {"train": labelled_rows(splits.train)}
  classes = len(trained.labels)
  embedding = pretrained_embeddings(trained, records["train"])
  readable = np.flatnonzero(~np.isnan(embedding[:, 0]))
  records["train"] = records["train"].take(readable)
  label = records["train"].label
  group = split.group_texts(*map(records["train"].column, ("text", "response")))
  predicted = cross_validated(embedding[readable], label, group, classes, seed)
  found = {"train": predicted}
  notes = []
  if (trained.workdir / "result.json").exists():
    run, config = read_run(trained.workdir), trained.config
    share = config["calibration"]
    held_out = split.hold_back(splits.validation, share, config["seed"])
    for name, rows in {**held_out, "test": splits.test}.items():
      saved = run.predictions(name)
      if saved.text != rows.column("text") or saved.label.tolist() != [*rows.label]:
        notes.append(f"{name}: the texts have changed since the run, so it's left out")
        continue
      records[name] = rows
      found[name] = softmax(saved.logits, classifier.temperature)
  else:
    notes.append("the run isn't finished, so validation and test are left out")
  doubts = []
  for name, probability in found.items():
    label = records[name].label
    typical = typical_probability(probability, label)
    doubts += [
      Doubt(name, row, int(label[row]), suggested, probability[row], typical)
      for row, suggested in find_doubts(probability, label)
    ]
  return doubts, records, notes


def pretrained_embeddings(trained: TrainedModel, records: Records) -> np.ndarray:
  """Mean-pooled embeddings by the encoder as it was before training, f32 [n, D].

  Rows have norm 1, or are NaN for texts without a known word.
  """
  encoder = trained.model.encoder
  model = Classifier(encoder, len(trained.labels), rate=0.0)
  width = np.zeros((1, encoder.config.hidden_size), np.float32)
  heads = model.init(jax.random.key(0), width, method="classify")["params"]
  params, _ = load_params(trained.encoder, encoder.config)
  step = make_step(model, lambda outputs: outputs.logits, len(trained.labels))
  untrained = SafetyClassifier(
    tokenize.load_tokenizer(trained.encoder, trained.config["tokenization"]),
    trained.eval_step,
    {**heads, "encoder": params},
    trained.config["max_length"],
    trained.labels,
    1.0,
    {},
    step,
  )
  predicted = predict(untrained, records, np.arange(len(records)), embed=True)
  embedding = predicted.embedding.copy()
  embedding[np.isnan(predicted.probability[:, 0])] = np.nan
  return embedding


def describe(doubt: Doubt, labels: Sequence[str]) -> str:
  """The reason of a doubt in plain words."""
  who = (
    "models that weren't trained on this text"
    if doubt.split == "train"
    else "the run's model, which wasn't trained on this text,"
  )
  verb = "predict" if doubt.split == "train" else "predicts"
  suggested = labels[doubt.suggested]
  return (
    f"labelled {labels[doubt.label]}, but {who} {verb} {suggested} with probability "
    f"{doubt.probability[doubt.suggested]:.2f} (average of texts labelled {suggested}: "
    f"{doubt.typical[doubt.suggested]:.2f})"
  )

"""Draws pseudo-labelled texts for the next generation of self-training.

Each function returns how often each text is drawn, i64 [n]. Within a class, the most
confident texts come first; of equally confident ones, the earlier.
"""

from typing import Annotated

import numpy as np

from ssljax.options import Amount, Natural, Share


def noisy_student(
  label: np.ndarray,
  confidence: np.ndarray,
  counts: np.ndarray,
  seed: tuple[int, ...],
  floor: Annotated[Share, "minimum confidence of a drawn text"] = 0.3,
  per_class: Annotated[
    Natural, "labels drawn for each class; 0: the size of the pool / classes"
  ] = 0,
) -> np.ndarray:
  """Draws the same number for each class (Xie et al. 2020, arXiv 1911.04252).

  Texts whose confidence is below `floor` are dropped. Of each class, the `per_class`
  most confident texts are drawn. If a class has fewer, random ones of them are drawn
  more often, until there are `per_class`. (The authors' scripts set 0.3 and 130,000 for
  the 1,000 classes of ImageNet; for SVHN, 0.3 and a tenth of the pool of ten classes.)
  A class without any text remains without.

  The authors' code finds the threshold for `per_class` in steps of 0.01 and draws at
  random among all images above it, so it draws about that number; each image of a small
  class is copied floor(per_class / n) times, and once more with the probability of the
  remainder. Here, both numbers are exact.

  Args:
    label: i64 [n], the predicted classes.
    confidence: f64 [n], their probabilities.
    counts: i64 [C], true labels by class; only their number is used.
    seed: of the random copies.
  """
  size = per_class or max(1, len(label) // len(counts))
  copies = np.zeros(len(label), np.int64)
  for c in range(len(counts)):
    rows = _ranked(np.flatnonzero((label == c) & (confidence >= floor)), confidence)
    if len(rows) >= size:
      copies[rows[:size]] = 1
    elif len(rows):
      whole, rest = divmod(size, len(rows))
      random = np.random.Generator(np.random.PCG64((*seed, c)))
      copies[rows] = whole
      copies[random.permutation(rows)[:rest]] += 1
  return copies


def crest(
  label: np.ndarray,
  confidence: np.ndarray,
  counts: np.ndarray,
  seed: tuple[int, ...],
  alpha: Annotated[Amount, "power of the class-rebalancing rate"] = 1 / 3,
) -> np.ndarray:
  """Draws a larger share of the rarer classes (Wei et al. 2021, arXiv 2102.09559).

  With the classes in the order of their frequency, N_1 >= … >= N_L, the share
  (N_{L+1-l} / N_1)^alpha of the texts that are predicted as class l is drawn: all of
  the rarest class, and the smallest share of the most frequent one. The frequencies are
  those of the true labels. Numbers are rounded down, as in the authors' code, whose
  `alpha` is the inverse: 3.

  Args:
    label: i64 [n], the predicted classes.
    confidence: f64 [n], their probabilities.
    counts: i64 [C], true labels by class.
    seed: not used; nothing is random.
  """
  share = crest_shares(counts, alpha)
  copies = np.zeros(len(label), np.int64)
  for c in range(len(counts)):
    rows = _ranked(np.flatnonzero(label == c), confidence)
    copies[rows[: int(np.floor(share[c] * len(rows) + 1e-9))]] = 1
  return copies


def crest_shares(counts: np.ndarray, alpha: float) -> np.ndarray:
  """The share of each class that `crest` draws, f64 [C]."""
  order = np.argsort(-counts, kind="stable")
  ordered = counts[order]
  share = np.empty(len(counts))
  share[order] = (ordered[::-1] / ordered[0]) ** alpha
  return share


def _ranked(rows: np.ndarray, confidence: np.ndarray) -> np.ndarray:
  return rows[np.argsort(-confidence[rows], kind="stable")]


DRAWS = {"noisy_student": noisy_student, "crest": crest}

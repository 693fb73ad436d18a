"""Draws by seed: the labelled budget out of train, and splits that share no group."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssljax.data.dedup.normalize import same
from ssljax.errors import UserError


class Budget(NamedTuple):
  """Which rows of train are labelled. Together every row, each once."""

  labelled: np.ndarray  # i64 [B total], ascending rows
  unlabelled: np.ndarray  # i64 [N], ascending rows
  notes: tuple[str, ...]  # for the log


def draw(
  labels: np.ndarray,
  budget: int,
  classes: int,
  seed: int,
  mode: str = "balanced",
  names: Sequence[str] = (),
  include_labelled: bool = False,
  labelled_imbalance: float = 0.0,
  unlabelled_imbalance: float = 0.0,
) -> Budget:
  """Draws the labelled rows; all others are unlabelled.

  The rows of each class are shuffled by the seed and the first ones taken, so that
  with one seed and mode a smaller balanced budget lies within a larger one.

  Args:
    labels: i64 [n], -1 for rows without a label, which are never drawn.
    budget: labelled rows in all; 0 takes every label.
    classes: C.
    seed: any integer >= 0.
    mode: "balanced", the same number of every class; where the classes do not divide
      the budget, the remainder goes to the first classes in an order drawn by the
      seed. "stratified", in proportion to the classes, at least one of each.
    names: of the classes, for messages.
    include_labelled: put the labelled rows into the unlabelled pool, too.
    labelled_imbalance: see `shape`; instead of what `mode` says. 0: off.
    unlabelled_imbalance: the same of the unlabelled rows, as many as there can be; the
      others are left out. 0: off.

  Raises:
    UserError: a negative budget, one that a class cannot fill, a class that would have
      no labelled row, or an imbalance of rows whose labels are not known.
  """
  names = [f"{names[c]!r} (label {c})" if names else f"{c}" for c in range(classes)]
  if mode not in ("balanced", "stratified"):
    raise UserError(
      f"budget mode {mode!r} is unknown; it is either balanced or stratified"
    )
  if budget < 0:
    raise UserError(
      f"labels={budget}: a label budget cannot be negative; 0 takes every label"
    )
  count = np.bincount(labels[labels >= 0], minlength=classes)[:classes]
  for c in np.flatnonzero(count == 0):
    raise UserError(
      f"class {names[c]} has no labelled row in train, so none can be drawn; label some"
    )
  notes = []
  if budget == 0:
    share = count
  elif budget < classes:
    raise UserError(
      f"labels={budget}: fewer labels than the {classes} classes, so class "
      f"{names[budget]} and others would have none; ask for at least {classes}"
    )
  elif labelled_imbalance:
    share = _largest(shape(classes, labelled_imbalance), budget)
    notes.append(f"labelled_imbalance={labelled_imbalance:g}: {_told(share, names)}")
  elif mode == "balanced":
    share = np.full(classes, budget // classes)
    order = _generator(seed, 0).permutation(classes)[: budget % classes]
    share[order] += 1
    if len(order):
      more = ", ".join(names[c] for c in sorted(order))
      notes.append(
        f"labels={budget} is not a multiple of {classes} classes: one label more for "
        f"{more} (drawn by seed {seed})"
      )
  else:
    share = _largest(count, budget)
  other = " or for a stratified draw" if mode == "balanced" else ""
  other += ", or for 0 to take all"
  for c in np.flatnonzero(share > count):
    most = int(count.min()) * classes if mode == "balanced" else int(count.sum())
    if labelled_imbalance:
      sizes = shape(classes, labelled_imbalance)
      most = int((count / sizes).min() * sizes.sum())
      given = f"labelled_imbalance={labelled_imbalance:g}"
      other = f", or for a ratio nearer to 1 than {given}"
    raise UserError(
      f"labels={budget}: class {names[c]} needs {share[c]} labelled rows and has "
      f"{count[c]}; ask for at most {most}{other}"
    )
  chosen = [
    _generator(seed, 1, c).permutation(np.flatnonzero(labels == c))[: share[c]]
    for c in range(classes)
  ]
  labelled = np.sort(np.concatenate(chosen)).astype(np.int64)
  rest = np.ones(len(labels), bool)
  rest[labelled] = include_labelled
  unlabelled = np.flatnonzero(rest)
  if unlabelled_imbalance:
    unlabelled = _imbalanced(labels, unlabelled, unlabelled_imbalance, classes, seed)
    many = np.bincount(labels[unlabelled], minlength=classes)
    notes.append(f"unlabelled_imbalance={unlabelled_imbalance:g}: {_told(many, names)}")
  return Budget(labelled, unlabelled, tuple(notes))


def shape(classes: int, ratio: float) -> np.ndarray:
  """Class sizes f64 [C] that fall from 1 to 1/|ratio| by a constant factor.

  n_c = |ratio|^(-c / (C - 1)); a negative ratio turns the order round.
  """
  sizes = np.abs(ratio) ** (-np.arange(classes) / max(1, classes - 1))
  return sizes if ratio > 0 else sizes[::-1]


def _told(many: np.ndarray, names: Sequence[str]) -> str:
  return ", ".join(f"{n} of {name}" for n, name in zip(many, names, strict=True))


def _imbalanced(
  labels: np.ndarray, rows: np.ndarray, ratio: float, classes: int, seed: int
) -> np.ndarray:
  """Of `rows` as many as have the shape of the ratio, ascending."""
  own = labels[rows]
  if (own < 0).any():
    raise UserError(
      f"unlabelled_imbalance={ratio:g}: {(own < 0).sum()} rows of train have no label, "
      "so their class is not known; take labelled data for it, or 0"
    )
  sizes = shape(classes, ratio)
  most = (np.bincount(own, minlength=classes) / sizes).min()
  many = np.floor(most * sizes + 1e-9).astype(np.int64)
  for c in np.flatnonzero(many == 0):
    raise UserError(
      f"unlabelled_imbalance={ratio:g}: there are too few unlabelled rows to leave one "
      f"of class {c}; lower it, or the label budget"
    )
  kept = [
    _generator(seed, 3, c).permutation(rows[own == c])[: many[c]]
    for c in range(classes)
  ]
  return np.sort(np.concatenate(kept)).astype(np.int64)


def _largest(count: np.ndarray, budget: int) -> np.ndarray:
  """In proportion to `count` by largest remainders, but at least 1 each."""
  exact = budget * count / count.sum()
  share = np.maximum(np.floor(exact).astype(np.int64), 1)
  for c in np.argsort(share - exact, kind="stable")[: max(0, budget - share.sum())]:
    share[c] += 1
  while share.sum() > budget:  # what the rare classes got beyond their part
    share[np.argmax(share - exact + (share > 1) * len(count))] -= 1
  return share


def group(texts: Sequence[str]) -> np.ndarray:
  """i64 [n], a number for each different text; what is the same says `alike`."""
  number: dict[bytes, int] = {}
  return np.array(
    [number.setdefault(same(text, None), len(number)) for text in texts], np.int64
  )


def divide(
  groups: np.ndarray, labels: np.ndarray, shares: Sequence[float], seed: int
) -> list[np.ndarray]:
  """Divides rows by seed into parts that share no group and look alike by class.

  Args:
    groups: i64 [n], rows of one group stay together.
    labels: i64 [n], -1 for no label; a group that holds one goes to the first part.
    shares: of each part, sum 1. The first part takes what rounding leaves.
    seed: any integer >= 0.

  Returns:
    Ascending rows of each part, i64.
  """
  _, first, index = np.unique(groups, return_index=True, return_inverse=True)
  rows = np.bincount(index)
  bare = np.zeros(len(first), bool)
  bare[index[labels < 0]] = True
  kind = np.where(bare, -1, labels[first])  # a group counts with its first row's class
  part = np.zeros(len(first), np.int64)
  for c in np.unique(kind[kind >= 0]):
    of_class = np.flatnonzero(kind == c)
    # By row of first appearance, so that the numbering of the groups has no say.
    of_class = of_class[np.argsort(first[of_class])]
    mine = _generator(seed, 2, int(c)).permutation(of_class)
    done = 0
    for k in range(len(shares) - 1, 0, -1):
      want = shares[k] * rows[mine].sum()
      end = done + int(np.searchsorted(np.cumsum(rows[mine[done:]]), want, "left")) + 1
      if rows[mine[done:end]].sum() - want > want - rows[mine[done : end - 1]].sum():
        end -= 1
      part[mine[done:end]] = k
      done = end
  return [np.flatnonzero(part[index] == k) for k in range(len(shares))]


def _generator(*seed: int) -> np.random.Generator:
  """Independent streams; PCG64 and SeedSequence are stable across NumPy versions."""
  return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))

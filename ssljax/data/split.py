"""Draws the labelled rows from train, and divides rows into disjoint splits."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ssljax.data.dedup.normalize import text_digest
from ssljax.data.records.records import Records
from ssljax.errors import UserError


class Budget(NamedTuple):
  labelled: np.ndarray  # i64, rows of train, ascending
  unlabelled: np.ndarray  # u32 [N], rows of train, ascending
  notes: tuple[str, ...]  # for the log


def draw_budget(
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
  """Draws the labelled rows; all other rows are unlabelled.

  The rows of each class are shuffled by the seed, and the first rows are taken. With
  the same seed, a larger balanced budget contains all rows of a smaller one.

    budget = draw_budget(np.array([0, 1, 0, 1, -1]), budget=2, classes=2, seed=0)
    budget.labelled    # one row of each class
    budget.unlabelled  # the three other rows

  Args:
    labels: i64 [n], -1 for rows without a label, which are never drawn.
    budget: number of labelled rows; 0 takes every row with a label.
    classes: C.
    seed: any integer >= 0.
    mode: "balanced" takes the same number of rows from each class; if the budget isn't
      a multiple of C, the seed decides which classes get one more. "stratified" takes
      rows in proportion to the class frequencies, and at least one row of each class.
    names: class names, for messages.
    include_labelled: also put the labelled rows into the unlabelled pool.
    labelled_imbalance: the class sizes of the labelled rows follow `imbalanced_sizes`
      with this ratio, instead of `mode`; 0 switches this off.
    unlabelled_imbalance: the same for the unlabelled rows; as many rows are kept as
      the ratio allows.

  Raises:
    UserError: a class has no labelled row, or too few for the budget; or
      `unlabelled_imbalance` is set, and a row has no label or a class has too few rows.
  """
  names = [f"{names[c]!r} (label {c})" if names else f"{c}" for c in range(classes)]
  count = np.bincount(labels[labels >= 0], minlength=classes)[:classes]
  for c in np.flatnonzero(count == 0):
    raise UserError(f"class {names[c]} has no labelled row in train; label some rows")
  notes = []
  if budget == 0:
    share = count
  elif budget < classes:
    raise UserError(
      f"labels={budget}: that is fewer than the {classes} classes, so class "
      f"{names[budget]} would have no label; use at least {classes}"
    )
  elif labelled_imbalance:
    share = _largest_remainders(imbalanced_sizes(classes, labelled_imbalance), budget)
    notes.append(f"labelled_imbalance={labelled_imbalance:g}: {_listed(share, names)}")
  elif mode == "balanced":
    share = np.full(classes, budget // classes)
    order = _generator(seed, 0).permutation(classes)[: budget % classes]
    share[order] += 1
    if len(order):
      larger = ", ".join(names[c] for c in sorted(order))
      notes.append(
        f"labels={budget} is not a multiple of {classes} classes: with seed "
        f"{seed}, one more label goes to {larger}"
      )
  else:
    share = _largest_remainders(count, budget)
  for c in np.flatnonzero(share > count):
    raise UserError(
      f"labels={budget}: class {names[c]} needs {share[c]} labelled rows but has only "
      f"{count[c]}; {_budget_advice(count, mode, labelled_imbalance)}"
    )
  rows = np.arange(len(labels), dtype=np.uint32)
  labelled = _draw(rows, labels, share, seed, 1)
  unlabelled = rows if include_labelled else np.delete(rows, labelled)
  if unlabelled_imbalance:
    unlabelled = _imbalance(labels, unlabelled, unlabelled_imbalance, classes, seed)
    sizes = np.bincount(labels[unlabelled], minlength=classes)
    notes.append(
      f"unlabelled_imbalance={unlabelled_imbalance:g}: {_listed(sizes, names)}"
    )
  return Budget(labelled, unlabelled, tuple(notes))


def _budget_advice(count: np.ndarray, mode: str, imbalance: float) -> str:
  """What to do if a class cannot fill its share of the budget."""
  if imbalance:
    sizes = imbalanced_sizes(len(count), imbalance)
    most = int((count / sizes).min() * sizes.sum())
    return f"use labels={most} at most, or a labelled_imbalance closer to 1"
  if mode == "balanced":
    most = int(count.min()) * len(count)
    return f"use labels={most} at most, labels=0 for all labels, or balance=stratified"
  return f"use labels={count.sum()} at most, or labels=0 for all labels"


def imbalanced_sizes(classes: int, ratio: float) -> np.ndarray:
  """Relative class sizes f64 [C] that fall from 1 to 1/|ratio| by a constant factor.

  n_c = |ratio|^(-c / (C - 1)); a negative ratio reverses the order.
  """
  sizes = np.abs(ratio) ** (-np.arange(classes) / max(1, classes - 1))
  return sizes if ratio > 0 else sizes[::-1]


def _listed(sizes: np.ndarray, names: Sequence[str]) -> str:
  return ", ".join(f"{n} of {name}" for n, name in zip(sizes, names, strict=True))


def _imbalance(
  labels: np.ndarray, rows: np.ndarray, ratio: float, classes: int, seed: int
) -> np.ndarray:
  """The largest subset of `rows` with class sizes of this ratio, in ascending order."""
  row_labels = labels[rows]
  if (row_labels < 0).any():
    raise UserError(
      f"unlabelled_imbalance={ratio:g}: {(row_labels < 0).sum()} rows of train have no "
      "label, so their class is unknown; use fully labelled data, or set "
      "unlabelled_imbalance to 0"
    )
  relative = imbalanced_sizes(classes, ratio)
  most = (np.bincount(row_labels, minlength=classes) / relative).min()
  sizes = np.floor(most * relative + 1e-9).astype(np.int64)
  for c in np.flatnonzero(sizes == 0):
    raise UserError(
      f"unlabelled_imbalance={ratio:g}: there are too few unlabelled rows to keep one "
      f"of class {c}; lower the ratio or the label budget"
    )
  return _draw(rows, row_labels, sizes, seed, 3).astype(rows.dtype)


def _draw(
  rows: np.ndarray, labels: np.ndarray, sizes: np.ndarray, *seed: int
) -> np.ndarray:
  """`sizes[c]` random ones of the rows with each label c, ascending."""
  drawn = [
    _generator(*seed, c).permutation(rows[labels == c])[:size]
    for c, size in enumerate(sizes)
  ]
  return np.sort(np.concatenate(drawn)).astype(np.int64)


def _largest_remainders(count: np.ndarray, budget: int) -> np.ndarray:
  """Divides `budget` in proportion to `count`, with at least 1 for each class."""
  exact = budget * count / count.sum()
  share = np.maximum(np.floor(exact).astype(np.int64), 1)
  for c in np.argsort(share - exact, kind="stable")[: max(0, budget - share.sum())]:
    share[c] += 1
  while share.sum() > budget:  # rounding rare classes up to 1 exceeded the budget
    share[np.argmax(share - exact + (share > 1) * len(count))] -= 1
  return share


def divide_records(
  records: Records,
  shares: Mapping[str, float],
  seed: int,
  in_first: np.ndarray | None = None,
) -> dict[str, Records]:
  """Divides records into named splits with `divide`; equal texts stay together.

  Rows that are True in `in_first`, bool [n], go to the first split, as do unlabelled
  rows.
  """
  groups = group_texts(records.column("text"))
  labels = records.label
  if in_first is not None:
    labels = np.where(in_first, -1, labels)
  parts = divide(groups, labels, tuple(shares.values()), seed)
  return dict(zip(shares, map(records.take, parts), strict=True))


def hold_back(validation: Records, share: float, seed: int) -> dict[str, Records]:
  """Divides the validation texts of a run, as `--config.calibration` says.

  Args:
    share: of `calibration`; with 0, all texts are `validation`.
  """
  if not share:
    return {"validation": validation}
  parts = {"validation": 1 - share, "calibration": share}
  return divide_records(validation, parts, seed)


def group_texts(
  texts: Sequence[str], responses: Sequence[str | None] | None = None
) -> np.ndarray:
  """i64 [n], the group of each text, or of each pair of a text and a response.

  `dedup.normalize` decides which are equal.
  """
  number: dict[bytes, int] = {}
  pairs = zip(texts, responses or [None] * len(texts), strict=True)
  digests = (text_digest(*pair) for pair in pairs)
  return np.array([number.setdefault(d, len(number)) for d in digests], np.int64)


def divide(
  groups: np.ndarray, labels: np.ndarray, shares: Sequence[float], seed: int
) -> list[np.ndarray]:
  """Divides rows into parts, stratified by class; rows of a group stay together.

  Args:
    groups: i64 [n], the group of each row.
    labels: i64 [n], -1 for no label; groups with unlabelled rows go to the first part.
    shares: fraction of each part, summing to 1; the first part gets what remains.
    seed: any integer >= 0.

  Returns:
    Rows of each part, i64, ascending.
  """
  _, first, index = np.unique(groups, return_index=True, return_inverse=True)
  group_size = np.bincount(index)
  has_unlabelled = np.zeros(len(first), bool)
  has_unlabelled[index[labels < 0]] = True
  # The first row of a group decides the group's class.
  group_class = np.where(has_unlabelled, -1, labels[first])
  part = np.zeros(len(first), np.int64)
  for c in np.unique(group_class[group_class >= 0]):
    members = np.flatnonzero(group_class == c)
    # Sorted by first appearance, so that the group numbers don't matter.
    members = members[np.argsort(first[members])]
    members = _generator(seed, 2, int(c)).permutation(members)
    sizes = group_size[members]
    done = 0
    for k in range(len(shares) - 1, 0, -1):
      target = shares[k] * sizes.sum()
      end = done + int(np.searchsorted(np.cumsum(sizes[done:]), target, "left")) + 1
      if sizes[done:end].sum() - target > target - sizes[done : end - 1].sum():
        end -= 1
      part[members[done:end]] = k
      done = end
  return [np.flatnonzero(part[index] == k) for k in range(len(shares))]


def _generator(*seed: int) -> np.random.Generator:
  """An independent stream; PCG64 and SeedSequence are stable across NumPy versions."""
  return np.random.Generator(np.random.PCG64(seed))

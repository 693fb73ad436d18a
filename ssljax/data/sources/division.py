"""Takes the splits that a source lacks from its train split.

With few labels, 10% of them are too few for validation, where the checkpoint and the
thresholds are chosen. Validation and test therefore get more of them, but train keeps
at least half.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ssljax.data import split
from ssljax.data.records import selected
from ssljax.data.records.read import SHARES
from ssljax.data.records.records import Records
from ssljax.data.records.split_files import SPLITS
from ssljax.errors import UserError

NEEDED = 20  # texts of the rarest class that validation and test should have
MOST = 4  # either gets a quarter at most to have them


def parse_shares(values: Sequence[str]) -> dict[str, float] | None:
  """Parses --shares=TRAIN,VALIDATION,TEST; None if it isn't given.

    parse_shares(["0.6", "0.2", "0.2"])

  Raises:
    UserError: not three positive numbers, or their sum isn't 1.
  """
  if not values:
    return None
  given = f"--shares={','.join(values)}"
  try:
    shares = [float(value) for value in values]
  except ValueError:
    shares = []
  if len(shares) != len(SPLITS) or not all(0 < share < 1 for share in shares):
    raise UserError(
      f"{given}: give the shares of train, validation and test as three numbers above "
      "0, such as 0.6,0.2,0.2"
    )
  if abs(sum(shares) - 1) > 1e-6:
    raise UserError(f"{given}: the sum is {sum(shares):g}; it must be 1")
  return dict(zip(SPLITS, shares, strict=True))


def choose_shares(labels: np.ndarray) -> dict[str, float]:
  """The shares of the labelled rows for train, validation and test.

  They are 0.7, 0.1 and 0.2 if the rarest class has 200 rows or more.

  Args:
    labels: i64 [n], -1 for rows without a label.
  """
  counts = np.bincount(labels[labels >= 0], minlength=1)
  rarest = max(1, int(counts[counts > 0].min(initial=len(labels))))
  wanted = min(NEEDED, rarest // MOST) / rarest
  shares = {name: max(SHARES[name], wanted) for name in ("validation", "test")}
  return {"train": 1 - sum(shares.values()), **shares}


def add_splits(
  splits: Mapping[str, Records],
  shares: Mapping[str, float] | None,
  whole: bool,
  seed: int,
) -> tuple[dict[str, Records], dict[str, float], list[str]]:
  """Takes missing splits from train, and keeps rows with the same text together.

  Args:
    splits: the splits of the source.
    shares: of the labelled rows of train, for splits that are missing. If another split
      is present, train gets its share as well. None: `choose_shares`.
    whole: whether to take nothing from train.
    seed: for drawing the rows.

  Returns:
    (splits, shares, notes): the shares of the splits that were taken from train.

  Raises:
    UserError: there is no train split, or validation without train and test.
  """
  splits = dict(splits)
  if "train" not in splits and (whole or list(splits) == ["test"]):
    use = {"test": "python -m ssljax.evaluate", "validation": "training, beside others"}
    return (
      splits,
      {},
      [f"only a {name} split: use it with {use[name]}" for name in splits],
    )
  if "train" not in splits:
    raise UserError(
      f"no train split (found: {', '.join(splits)}); give a file or split named train"
    )
  chosen = selected.is_selected(splits["train"])
  if not shares:  # chosen rows stay in train, so they don't count
    shares = choose_shares(np.where(chosen, -1, splits["train"].label))
  missing = {name: share for name, share in shares.items() if name not in splits}
  if whole:
    listed = " and no ".join(missing)
    note = f"no {listed} split, which training needs; --shares takes them from train"
    return splits, {}, [note]
  if not missing:
    return splits, {}, []
  fractions = {"train": 1 - sum(missing.values()), **missing}
  if chosen.any() and (chosen | (splits["train"].label < 0)).all():
    raise UserError(
      "all labelled rows were chosen by ssljax.select; they are for training, so there "
      f"are none for {' and '.join(missing)}; add them to your dataset: "
      "--source=DATASET --add=FILE"
    )
  divided = split.divide_records(splits["train"], fractions, seed, chosen)
  listed = " and ".join(f"{name} ({share:.1%})" for name, share in missing.items())
  note = (
    f"{listed} taken from the labelled rows of train with seed {seed}, keeping rows "
    "with the same text together"
  )
  if chosen.any():
    note += f"; the {chosen.sum()} texts that ssljax.select chose stay in train"
  if len(splits) == 1:
    note += "; to change this, use --shares=TRAIN,VALIDATION,TEST, or --as=test for a "
    note += "file that is only for testing"
  return splits | divided, missing, [note]

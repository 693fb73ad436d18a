"""Reads the training rows with their texts, and draws the labelled budget."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ssljax.data import pseudo_labels, split
from ssljax.data.dedup import exact
from ssljax.data.records.read import read_splits
from ssljax.data.records.records import Records, Splits
from ssljax.errors import UserError


class TrainRows(NamedTuple):
  """The rows of a run, before views are created and tokenised."""

  splits: Splits
  labelled: Records
  unlabelled: Records
  notes: list[str]  # for the log
  dropped: str  # says which rows of train were dropped; "" if none were


def load_rows(config: Mapping[str, Any]) -> TrainRows:
  """Reads the data, draws the labelled budget, and adds texts with pseudo-labels.

  Args:
    config: see configs/base.py.

  Raises:
    UserError: bad data (see `read_splits`, `draw_budget`, `pseudo_labels.expand`).
  """
  seed = config["seed"]
  splits = read_splits(config["data"], seed)
  splits, dropped = exact.resolve_overlap(splits, config["on_overlap"])
  try:
    budget = split.draw_budget(
      splits.train.label,
      config["labels"],
      len(splits.labels),
      seed,
      mode=config["balance"],
      names=splits.labels,
      include_labelled=config["include_labelled"],
      labelled_imbalance=config["labelled_imbalance"],
      unlabelled_imbalance=config["unlabelled_imbalance"],
    )
  except UserError as error:
    raise UserError(f"{error}{dropped and f' ({dropped})'}") from error
  labelled = splits.train.take(budget.labelled)
  unlabelled = splits.train.take(budget.unlabelled)
  notes = [*splits.notes, *budget.notes]
  if config["pseudo_labels"]:
    labelled, unlabelled, note = pseudo_labels.expand(
      config["pseudo_labels"],
      labelled,
      unlabelled,
      splits.labels,
      config["include_labelled"],
    )
    notes.append(note)
  return TrainRows(splits, labelled, unlabelled, notes, dropped)

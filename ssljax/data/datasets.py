"""Builds the tokenised datasets of a run from its config."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.assets.encoders import resolve
from ssljax.batch import SecondCandidate
from ssljax.data import pseudo_labels, split, views
from ssljax.data.batches import tokenize
from ssljax.data.batches.loader import TrainSet
from ssljax.data.batches.tokenize import Tokens
from ssljax.data.dedup import exact
from ssljax.data.records import files
from ssljax.data.records.read import read_splits
from ssljax.data.records.records import Records, Splits
from ssljax.data.records.split_files import SPLITS
from ssljax.errors import UserError
from ssljax.method import Needs


class EvalSet(NamedTuple):
  rows: Records
  tokens: Tokens

  @property
  def label(self) -> np.ndarray:
    """i64 [n]."""
    return self.rows.label


class Sets(NamedTuple):
  train: TrainSet
  validation: EvalSet
  test: EvalSet
  labels: tuple[str, ...]  # class names by id
  notes: tuple[str, ...]  # for the log
  sha256: str  # of all data for training, model selection and testing
  rows_sha256: str  # the same, but it doesn't depend on the names of files
  encoder: Path  # folder of the encoder


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


def load_sets(
  config: Mapping[str, Any],
  needs: Needs,
  check_encoder: Callable[[Path], Any] = lambda folder: None,
) -> Sets:
  """Reads the data, draws the labelled budget, creates views and tokenises them.

  Tokens are cached, so loading the same data again is fast.

  Args:
    config: see configs/base.py.
    needs: which views the method reads.
    check_encoder: raises UserError if the encoder in a folder can't be used; called
      before its tokenizer is loaded.

  Raises:
    UserError: bad data (see `load_rows`), a view that isn't stored, or a missing
      encoder. Errors in the data are reported first.
  """
  seed = config["seed"]
  splits, labelled, unlabelled, notes, dropped = load_rows(config)
  names = (*needs.labelled_views, *needs.views)
  views.check_kinds(splits.train, names, config, dropped)
  covered, lines = views.covered_rows(
    labelled, needs.labelled_views, config, "labelled", dropped
  )
  notes += lines
  if not covered.all():  # labelled rows are too valuable to drop
    notes.append(f"{(~covered).sum()} labelled rows lack a view; their text is used")
  covered, lines = views.covered_rows(
    unlabelled, needs.views, config, "unlabelled", dropped
  )
  notes += lines
  if not covered.all():
    notes.append(f"dropped {(~covered).sum()} unlabelled rows that lack a view")
    unlabelled = unlabelled.take(np.flatnonzero(covered))

  encoder = resolve(config["encoder"])
  check_encoder(encoder)
  tokenize_views = lambda rows, names, seed: {
    name: views.tokenize_view(rows, name, config, encoder, seed) for name in names
  }
  train = TrainSet(
    tokenize_views(labelled, needs.labelled_views, 2 * seed),
    tokenize_views(unlabelled, needs.views, 2 * seed + 1),
    labelled.label.astype(np.int32),
    unlabelled.label.astype(np.int32) if needs.views else np.zeros(0, np.int32),
  )
  for name in needs.views:
    single = (np.diff(train.unlabelled[name].begin) < 2).sum()
    if isinstance(name, SecondCandidate) and single:
      notes.append(
        f"{single} unlabelled rows have only one {name.first} view, which the method "
        f"reads twice: add more kinds with --config.{name.first}"
      )
  validation, test = (
    eval_set(rows, encoder, config, config["tokenizer_backend"])
    for rows in (splits.validation, splits.test)
  )
  return Sets(
    train,
    validation,
    test,
    splits.labels,
    tuple(notes),
    *_hashes(train, (validation, test)),
    encoder,
  )


def eval_set(
  rows: Records, encoder: Path, config: Mapping[str, Any], backend: str = "hf"
) -> EvalSet:
  """Tokenises labelled rows, without views.

  Args:
    config: uses max_length, tokenization and verify.
  """
  tokens = tokenize.encode_cached(
    encoder,
    rows.column("text"),
    rows.column("response"),
    config["max_length"],
    backend,
    tokenization=config["tokenization"],
    verify=config["verify"],
  )
  return EvalSet(rows, tokens)


def _hashes(train: TrainSet, eval_sets: Sequence[EvalSet]) -> tuple[str, str]:
  """Returns `sha256` and `rows_sha256` of Sets."""
  arrays = [train.label]
  for view in (*train.labelled.values(), *train.unlabelled.values()):
    arrays += [view.begin, view.tokens.offset, view.tokens.ids]
  for scored in eval_sets:
    arrays += [scored.label, scored.tokens.offset, scored.tokens.ids]
  digests = [
    hashlib.sha256(json.dumps([ids(scored.rows) for scored in eval_sets]).encode())
    for ids in (lambda rows: rows.column("id"), _ids_without_files)
  ]
  for array in arrays:
    for digest in digests:
      digest.update(np.ascontiguousarray(array))
  return digests[0].hexdigest(), digests[1].hexdigest()


def _ids_without_files(rows: Records) -> list[str]:
  """The ids; of an id that comes from a file's name, only the number of the row."""
  prefixes = [
    {stem, *(f"{split}/{stem}" for split in SPLITS)}
    for stem in map(files.stem, rows.paths)
  ]
  ids = []
  for id_, path in zip(rows.column("id"), rows.path, strict=True):
    prefix, _, row = id_.rpartition(":")
    ids.append(f":{row}" if prefix in prefixes[path] else id_)
  return ids

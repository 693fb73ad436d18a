"""Builds the tokenised datasets of a run from its config."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.data import split, text_sets
from ssljax.data.batches import tokenize
from ssljax.data.batches.loader import TrainSet
from ssljax.data.batches.tokenize import Tokens
from ssljax.data.pool import token_sets
from ssljax.data.records import files, selected
from ssljax.data.records.records import Records
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
  calibration: EvalSet | None  # what is held back of validation
  labels: tuple[str, ...]  # class names by id
  notes: tuple[str, ...]  # for the log
  sha256: str  # of all data for training, model selection and testing
  rows_sha256: str  # the same, but it doesn't depend on the names of files
  encoder: Path  # folder of the encoder


def load_sets(
  config: Mapping[str, Any],
  needs: Needs,
  check_encoder: Callable[[Path], Any] = lambda folder: None,
) -> Sets:
  """Reads the data, draws the labelled budget, and prepares the views.

  Tokens are cached, so loading the same data again is fast. The texts of the training
  rows aren't kept, except in the view formats 1 and 2, which make all views here.

  Args:
    config: see configs/base.py.
    needs: which views the method reads.
    check_encoder: raises UserError if the encoder in a folder can't be used; called
      before its tokenizer is loaded.

  Raises:
    UserError: bad data (see `read_splits` and `draw_budget`), a view that isn't stored,
      or a missing encoder. Malformed rows at the beginning of the files are reported
      before a missing encoder.
  """
  load = token_sets.load if config["view_format"] >= 3 else text_sets.load
  loaded = load(config, needs, check_encoder)
  share, held_back = config["calibration"], None
  validation, notes = loaded.validation, loaded.notes
  for rows, what in ((validation, "thresholds"), (loaded.test, "metrics")):
    notes = (*notes, *selected.describe(rows, what))
  if share:
    divided = split.hold_back(validation, share, config["seed"])
    validation, held_back = divided.values()
    for name, part in divided.items():
      if len(np.unique(part.label)) < 2:
        raise UserError(
          f"--config.calibration={share:g}: the {name} part of the validation texts "
          f"has {len(part)} texts, not of each class; label more, or omit the key"
        )
    chosen = int(selected.is_selected(held_back).sum())
    if chosen:
      raise UserError(
        f"--config.calibration={share:g}: ssljax.select chose {chosen} of the "
        "held-back texts because a model was unsure about them, so they can't promise "
        "anything for others; put them into train"
      )
    counts = ", ".join(f"{len(part)} for {name}" for name, part in divided.items())
    notes = (*notes, f"validation texts: {counts}")
  sets = [
    eval_set(rows, loaded.encoder, config, config["tokenizer_backend"])
    for rows in (validation, loaded.test, held_back)
    if rows is not None
  ]
  return Sets(
    loaded.train,
    sets[0],
    sets[1],
    sets[2] if share else None,
    loaded.labels,
    notes,
    *_hashes(loaded.content, sets),
    loaded.encoder,
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


def _hashes(
  content: Sequence[np.ndarray], eval_sets: Sequence[EvalSet]
) -> tuple[str, str]:
  """Returns `sha256` and `rows_sha256` of Sets."""
  arrays = [*content]
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

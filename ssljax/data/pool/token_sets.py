"""Loads the data of a run from a token store: no text of train is held in memory."""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.data import pseudo_labels, split, views
from ssljax.data.batches.loader import TrainSet
from ssljax.data.batches.token_words import WordSample, count_words
from ssljax.data.loaded import Loaded
from ssljax.data.pool.index import FALLBACK, VIEW, Index, Kinds
from ssljax.data.pool.splits import PoolSplits, open_splits, resolve_overlap
from ssljax.data.pool.store import Store
from ssljax.data.pool.view import Dropped, PoolView, remaining
from ssljax.errors import UserError
from ssljax.method import Needs

COUNTED = 20_000  # texts whose words are counted, up to twice as many
BLOCK = 100  # of these are neighbours, which are read from a few pages of a file


def load(
  config: Mapping[str, Any], needs: Needs, check_encoder: Callable[[Path], Any]
) -> Loaded:
  """Opens the data, draws the labelled budget, and prepares the views.

  The arguments and errors are those of `datasets.load_sets`.
  """
  seed = config["seed"]
  splits = open_splits(config, check_encoder)
  store = splits.store
  rows, dropped, note = resolve_overlap(splits, config["on_overlap"])
  notes = [*splits.notes, *filter(None, [note])]
  budget = _draw_budget(config, store.index.label[rows], splits.labels, note)
  labelled, unlabelled = rows[budget.labelled], rows[budget.unlabelled]
  label = np.array(store.index.label[labelled])
  notes += budget.notes
  if config["pseudo_labels"]:
    drawn = _draw_pseudo_labels(config, splits, labelled, unlabelled)
    if not config["include_labelled"]:
      used = np.searchsorted(unlabelled, np.unique(drawn.rows))
      unlabelled = np.delete(unlabelled, used)
    labelled = np.concatenate([labelled, drawn.rows])
    label = np.concatenate([label, drawn.label.astype(np.int32)])
    notes.append(drawn.note)

  kinds = remaining(store, dropped)
  names = (*needs.labelled_views, *needs.views)
  present = _stored(store.index, kinds, rows)
  any_row = [kind for kind, has in present.items() if (has[0] | has[1]).any()]
  views.check_kinds(any_row, len(rows), names, config, note)
  parts = (
    (_stored(store.index, kinds, part), len(part)) for part in (labelled, unlabelled)
  )
  covered, lines = views.covered_parts(*parts, needs, config, note)
  notes += lines
  if not covered.all():
    unlabelled = unlabelled[covered]
  _check_mask(config, names, store.index)
  words = _count_words(store, rows)

  make = lambda part, names, seed: {
    name: _view(store, kinds, dropped, part, name, words, config, seed)
    for name in names
  }
  train = TrainSet(
    make(labelled, needs.labelled_views, 2 * seed),
    make(unlabelled, needs.views, 2 * seed + 1),
    label,
    np.array(store.index.label[unlabelled]) if needs.views else np.zeros(0, np.int32),
  )
  notes += views.describe_single(train.unlabelled)
  used = _stored_kinds(names, config)
  content = _content(store.index, used, dropped, label, labelled, unlabelled)
  store.drop_pages()
  evaluated = (splits.validation, splits.test)
  return Loaded(train, *evaluated, splits.labels, tuple(notes), content, splits.encoder)


def _draw_budget(
  config: Mapping[str, Any], label: np.ndarray, names: Sequence[str], note: str
) -> split.Budget:
  try:
    return split.draw_budget(
      label,
      config["labels"],
      len(names),
      config["seed"],
      mode=config["balance"],
      names=names,
      include_labelled=config["include_labelled"],
      labelled_imbalance=config["labelled_imbalance"],
      unlabelled_imbalance=config["unlabelled_imbalance"],
    )
  except UserError as error:
    raise UserError(f"{error}{note and f' ({note})'}") from error


def _draw_pseudo_labels(
  config: Mapping[str, Any],
  splits: PoolSplits,
  labelled: np.ndarray,
  unlabelled: np.ndarray,
) -> pseudo_labels.Drawn:
  """The drawn texts, as rows of the store."""

  def find(ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    rows = splits.store.find_ids(ids)
    own = np.isin(rows, labelled)
    at = np.minimum(np.searchsorted(unlabelled, rows), len(unlabelled) - 1)
    known = unlabelled[at] == rows if len(unlabelled) else np.zeros(len(rows), bool)
    return np.where(known & ~own, rows, -1), own

  return pseudo_labels.draw(config["pseudo_labels"], find, splits.labels)


def _stored(index: Index, kinds: Kinds, rows: np.ndarray) -> views.Stored:
  """The kinds that some rows store."""
  return {
    name: tuple((kinds.flag[i, rows] & bit) > 0 for bit in (VIEW, FALLBACK))
    for i, name in enumerate(index.kind_names)
  }


def _check_mask(config: Mapping[str, Any], names: Sequence[str], index: Index) -> None:
  read = {kind for _, kind in views.kinds_by_option(names, config)}
  if "masked" in read and index.table.mask[0] < 0:
    raise UserError(
      "the view 'masked': the encoder's tokenizer has no mask token; use another view "
      "or encoder"
    )


def _count_words(store: Store, rows: np.ndarray) -> WordSample:
  """The words of some texts of train, and how often they occur."""
  if len(rows) > 2 * COUNTED:
    starts = np.linspace(0, len(rows) - BLOCK, COUNTED // BLOCK).astype(np.int64)
    rows = rows[(starts[:, None] + np.arange(BLOCK)).ravel()]
  return count_words(store.token_ids(rows), store.index.table)


def _view(
  store: Store,
  kinds: Kinds,
  dropped: Dropped,
  rows: np.ndarray,
  name: str,
  words: WordSample,
  config: Mapping[str, Any],
  seed: int,
) -> PoolView:
  key = views.config_key(name)
  return PoolView(
    store,
    kinds,
    dropped,
    rows,
    config[key],
    words,
    fallback="words" if config["missing_view"] == "words" else "self",
    # Views of the same kind get different noise.
    seed=(seed << 32) + zlib.crc32(key.encode()),
    max_length=config["max_length"],
  )


def _stored_kinds(names: Sequence[str], config: Mapping[str, Any]) -> list[str]:
  """The kinds that the views read from the store, other than the texts themselves."""
  read = dict.fromkeys(kind for _, kind in views.kinds_by_option(names, config))
  return [kind for kind in read if kind not in views.COMPUTED_VIEWS]


def _content(
  index: Index,
  kinds: Sequence[str],
  dropped: Dropped,
  label: np.ndarray,
  labelled: np.ndarray,
  unlabelled: np.ndarray,
) -> list[np.ndarray]:
  """What determines the train set."""
  digests = {name: index.sha256.get(name) for name in ("", "label", *kinds)}
  views_ = sorted((row, sorted(numbers)) for row, numbers in dropped.items())
  plain = json.dumps([digests, views_]).encode()
  rows = (labelled.astype(np.int64), unlabelled.astype(np.int64))  # as in old hashes
  return [np.frombuffer(plain, np.uint8), label, *rows]

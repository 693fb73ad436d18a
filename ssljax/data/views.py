"""Checks the kinds of the weak and strong views, and says which rows lack one.

A view has candidate texts for each row. `--config.weak`, `--config.strong` and so on
list their kinds: `self` is the text, `words` changes random words, `masked` masks
random words, and any other kind must be stored in the records.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ssljax.batch import SecondCandidate
from ssljax.config import method_name
from ssljax.data.batches.loader import View
from ssljax.data.records.schema import COMPUTED_VIEWS
from ssljax.errors import UserError
from ssljax.method import Needs
from ssljax.options import nearest

CANDIDATES = 4  # per text, for the kind "words" and for "masked"

# For each kind: bool [n], whether a row stores it, and whether it stores its fallback,
# which augmentation writes for a text without views.
Stored = Mapping[str, tuple[np.ndarray, np.ndarray]]


def config_key(view: str) -> str:
  """The config key of a view: "strong" also for a second strong view."""
  return view.first if isinstance(view, SecondCandidate) else view


def check_kinds(
  stored: Collection[str],
  rows: int,
  names: Sequence[str],
  config: Mapping[str, Any],
  note: str,
) -> None:
  """Refuses kinds of views that no row of the train split stores.

  Args:
    stored: the kinds that rows store.
    rows: number of rows.
    names: names of the views.
    note: says which rows were dropped before, for errors; may be "".

  Raises:
    UserError: no row stores a kind. Version 0.1.0 accepted it if config.missing_view
      isn't "error", so runs of that version can still be continued.
  """
  if config["view_format"] == 1 and config["missing_view"] != "error":
    return
  for option, kind in kinds_by_option(names, config):
    if kind not in {*stored, *COMPUTED_VIEWS}:
      raise UserError(
        f"--config.{option}={','.join(config[option])}: none of the {rows} rows "
        f"of train stores a view {kind!r}{note and f' ({note})'}"
        f"{nearest(kind, {*stored, *COMPUTED_VIEWS})}; create the views with python -m "
        "ssljax.augment (--config.missing_view is for a kind that some rows lack)"
      )


def covered_rows(
  stored: Stored,
  rows: int,
  names: Sequence[str],
  config: Mapping[str, Any],
  which: str,
  note: str,
) -> tuple[np.ndarray, list[str]]:
  """Finds the rows that store all views, or get a replacement.

  Args:
    stored: the kinds that the rows store.
    rows: n, the number of rows.
    names: names of the views.
    which: "labelled" or "unlabelled", for errors.
    note: says which rows were dropped before, for errors; may be "".

  Returns:
    bool [n], False if a row lacks a view and config.missing_view is "drop"; and a line
    for each kind that some rows lack, or for which they store only a fallback.

  Raises:
    UserError: some rows don't store a kind, and config.missing_view is "error".
  """
  covered, notes = np.ones(rows, bool), []
  none = np.zeros(rows, bool)
  for option, kind in kinds_by_option(names, config):
    if kind in COMPUTED_VIEWS:
      continue
    has_view, has_fallback = stored.get(kind, (none, none))
    has_kind = has_view | has_fallback
    if not has_kind.all() and config["missing_view"] == "error":
      present = sorted(name for name, (a, b) in stored.items() if (a | b).any())
      listed = f" (stored kinds: {', '.join(present)})" if present else ""
      raise UserError(
        f"{method_name(config)} reads a {option} view (--config.{option}), but view "
        f"{kind!r} is stored for only {has_kind.mean():.1%} of the {rows} "
        f"{which} rows{note and f' ({note})'}{listed}; create it with "
        "python -m ssljax.augment, or set --config.missing_view=words|self|drop"
      )
    if config["missing_view"] == "drop":
      covered &= has_kind
    notes += [
      f"view {kind!r} (--config.{option}): {rows_of.mean():.1%} of the {rows} "
      f"{which} rows {fault}"
      for rows_of, fault in (
        (~has_kind, f"lack it (--config.missing_view={config['missing_view']})"),
        (has_kind & ~has_view, "have only the fallback of augmentation"),
      )
      if rows_of.any()
    ]
  return covered, notes


def covered_parts(
  labelled: tuple[Stored, int],
  unlabelled: tuple[Stored, int],
  needs: Needs,
  config: Mapping[str, Any],
  note: str,
) -> tuple[np.ndarray, list[str]]:
  """`covered_rows` of both parts of train.

  Args:
    labelled, unlabelled: the kinds that the rows store, and the number of rows.

  Returns:
    bool [N], which unlabelled rows to keep, and lines for the log.
  """
  views = needs.labelled_views
  covered, notes = covered_rows(*labelled, views, config, "labelled", note)
  if not covered.all():  # labelled rows are too valuable to drop
    notes.append(f"{(~covered).sum()} labelled rows lack a view; their text is used")
  covered, lines = covered_rows(*unlabelled, needs.views, config, "unlabelled", note)
  notes += lines
  if not covered.all():
    notes.append(f"dropped {(~covered).sum()} unlabelled rows that lack a view")
  return covered, notes


def describe_single(unlabelled: Mapping[str, View]) -> list[str]:
  """Notes on second candidates that are often the first ones again."""
  notes = []
  for name, view in unlabelled.items():
    single = (view.counts < 2).sum() if isinstance(name, SecondCandidate) else 0
    if single:
      notes.append(
        f"{single} unlabelled rows have only one {name.first} view, which the method "
        f"reads twice: add more kinds with --config.{name.first}"
      )
  return notes


def kinds_by_option(
  names: Sequence[str], config: Mapping[str, Any]
) -> list[tuple[str, str]]:
  """Lists (config key, kind) for the views with these names."""
  keys = dict.fromkeys(map(config_key, names))
  return [(key, kind) for key in keys for kind in config[key]]

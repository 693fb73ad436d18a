"""Builds the weak and strong views of rows: stored views, the text itself, or noise.

A view has candidate texts for each row. `--config.weak`, `--config.strong` and so on
list their kinds: `self` is the text, `words` applies `batches.word_noise`, `masked`
masks random words, and any other kind must be stored in the records.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.batch import SecondCandidate
from ssljax.config import method_name
from ssljax.data.batches import tftext, tokenize, word_noise
from ssljax.data.batches.loader import View
from ssljax.data.records.records import Records
from ssljax.data.records.schema import COMPUTED_VIEWS
from ssljax.errors import UserError
from ssljax.options import nearest

CANDIDATES = 4  # per text, for the kind "words" and for "masked"


def config_key(view: str) -> str:
  """The config key of a view: "strong" also for a second strong view."""
  return view.first if isinstance(view, SecondCandidate) else view


def check_kinds(
  rows: Records, names: Sequence[str], config: Mapping[str, Any], note: str
) -> None:
  """Refuses kinds of views that no row of the train split stores.

  Args:
    names: names of the views.
    note: says which rows were dropped before, for errors; may be "".

  Raises:
    UserError: no row stores a kind. Version 0.1.0 accepted it if config.missing_view
      isn't "error", so runs of that version can still be continued.
  """
  if config["view_format"] == 1 and config["missing_view"] != "error":
    return
  stored = {view["kind"] for views in rows.column("views") for view in views or ()}
  for option, kind in _kinds_by_option(names, config):
    if kind not in {*stored, *COMPUTED_VIEWS}:
      raise UserError(
        f"--config.{option}={','.join(config[option])}: none of the {len(rows)} rows "
        f"of train stores a view {kind!r}{note and f' ({note})'}"
        f"{nearest(kind, {*stored, *COMPUTED_VIEWS})}; create the views with python -m "
        "ssljax.augment (--config.missing_view is for a kind that some rows lack)"
      )


def covered_rows(
  rows: Records, names: Sequence[str], config: Mapping[str, Any], which: str, note: str
) -> tuple[np.ndarray, list[str]]:
  """Finds the rows that store all views, or get a replacement.

  Args:
    names: names of the views.
    which: "labelled" or "unlabelled", for errors.
    note: says which rows were dropped before, for errors; may be "".

  Returns:
    bool [n], False if a row lacks a view and config.missing_view is "drop"; and a line
    for each kind that some rows lack, or for which they store only a fallback.

  Raises:
    UserError: some rows don't store a kind, and config.missing_view is "error".
  """
  covered, notes = np.ones(len(rows), bool), []
  # (kind, whether it is a fallback, which augmentation stores for a text without views)
  kinds_of = [
    {(v["kind"], (v["origin"] or "").startswith("fallback:")) for v in views or ()}
    for views in rows.column("views")
  ]
  for option, kind in _kinds_by_option(names, config):
    if kind in COMPUTED_VIEWS:
      continue
    has_view = np.array([(kind, False) in kinds for kinds in kinds_of], bool)
    has_fallback = np.array([(kind, True) in kinds for kinds in kinds_of], bool)
    has_kind = has_view | has_fallback
    if not has_kind.all() and config["missing_view"] == "error":
      present = {name for kinds in kinds_of for name, _ in kinds}
      listed = f" (stored kinds: {', '.join(sorted(present))})" if present else ""
      raise UserError(
        f"{method_name(config)} reads a {option} view (--config.{option}), but view "
        f"{kind!r} is stored for only {has_kind.mean():.1%} of the {len(rows)} "
        f"{which} rows{note and f' ({note})'}{listed}; create it with "
        "python -m ssljax.augment, or set --config.missing_view=words|self|drop"
      )
    if config["missing_view"] == "drop":
      covered &= has_kind
    notes += [
      f"view {kind!r} (--config.{option}): {rows_of.mean():.1%} of the {len(rows)} "
      f"{which} rows {fault}"
      for rows_of, fault in (
        (~has_kind, f"lack it (--config.missing_view={config['missing_view']})"),
        (has_kind & ~has_view, "have only the fallback of augmentation"),
      )
      if rows_of.any()
    ]
  return covered, notes


def _kinds_by_option(
  names: Sequence[str], config: Mapping[str, Any]
) -> list[tuple[str, str]]:
  """Lists (config key, kind) for the views with these names."""
  keys = dict.fromkeys(map(config_key, names))
  return [(key, kind) for key in keys for kind in config[key]]


def tokenize_view(
  rows: Records, name: str, config: Mapping[str, Any], encoder: Path, seed: int
) -> View:
  """Creates and tokenises one view of the rows; results are cached.

  Args:
    name: the view, such as "weak".
    config: uses the view's key (such as "weak"), missing_view, view_format, max_length,
      tokenizer_backend, tokenization and verify.
    encoder: folder of the encoder.
    seed: for the kinds "words" and "masked".
  """
  kinds = config[config_key(name)]
  fallback = config["missing_view"].replace("drop", "self")
  version = config["view_format"]
  settings = json.dumps([version, CANDIDATES, kinds, fallback, seed])
  if "masked" in kinds:
    settings += json.dumps([tftext.FORMAT, tftext.MASKED])
  stored = [json.dumps(views) for views in rows.column("views")]
  masked: list[int] = []  # indices of candidates, from `_candidates`
  mask = lambda tokens, tokenizer: (
    tftext.mask_words(tokens, masked, tokenizer, seed) if masked else tokens
  )
  tokens, begin = tokenize.encode_views_cached(
    encoder,
    [*rows.column("text"), *stored, settings],
    [*rows.column("response"), *[None] * (len(stored) + 1)],
    config["max_length"],
    lambda: _candidates(rows, kinds, fallback, seed, version, masked),
    config["tokenizer_backend"],
    mask,
    tokenization=config["tokenization"],
    verify=config["verify"],
  )
  return View(tokens, begin)


def _candidates(
  rows: Records,
  kinds: Sequence[str],
  fallback: str,
  seed: int,
  version: int,
  masked: list[int],
) -> tuple[Sequence[str], Sequence[str | None], np.ndarray]:
  """Candidates of all rows: (texts, responses, begin [n + 1]); extends `masked`."""
  texts, responses = rows.column("text"), rows.column("response")
  has_stored = any(kind not in COMPUTED_VIEWS for kind in kinds)
  perturbed = ()
  if "words" in kinds or (has_stored and fallback == "words"):
    perturbed = word_noise.perturb_all(texts, responses, seed, CANDIDATES, version)
  stored = rows.column("views")
  candidates, begin = [], [0]
  for i, pair in enumerate(zip(texts, responses, strict=True)):
    noisy = [pairs[i] for pairs in perturbed]
    for kind in kinds:
      if kind == "self":
        candidates.append(pair)
      elif kind == "words":
        candidates += noisy
      elif kind == "masked":
        masked += range(len(candidates), len(candidates) + CANDIDATES)
        candidates += [pair] * CANDIDATES
      else:
        views = [view for view in stored[i] or () if view["kind"] == kind]
        candidates += [(view["text"], view["response"] or pair[1]) for view in views]
        if not views and fallback == "self":
          candidates.append(pair)
        elif not views and fallback == "words":
          candidates += noisy
    begin.append(len(candidates))
  new_texts, new_responses = zip(*candidates, strict=True) if candidates else ((), ())
  return new_texts, new_responses, np.array(begin, np.int64)

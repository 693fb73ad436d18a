"""From a config to the tokenised sets of a run."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.assets.encoders import resolve
from ssljax.batch import SecondCandidate
from ssljax.config import method_name
from ssljax.data import split
from ssljax.data.batches import tftext, tokenize, word_noise
from ssljax.data.batches.loader import TrainSet, View
from ssljax.data.batches.tokenize import Tokens
from ssljax.data.dedup import exact
from ssljax.data.records import records
from ssljax.data.records.records import Records, Splits
from ssljax.data.records.schema import MADE
from ssljax.errors import UserError
from ssljax.method import Needs

CANDIDATES = 4  # perturbations of a text that "words" or "masked" makes


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
  sha256: str  # of what the run trains on, chooses by and is tested on
  encoder: Path  # folder of the encoder


def load(config: Mapping[str, Any], needs: Needs) -> Sets:
  """Reads, splits by budget, draws views and tokenises (or finds all that cached).

  Args:
    config: see configs/base.py.
    needs: which views the method reads.

  Raises:
    UserError: bad data (see `records`, `split`), a view that is not stored, and only
      then an encoder that is not there.
  """
  found = records.read_splits(config["data"], config["seed"])
  found, dropped = _without_overlap(found, config["on_overlap"])
  try:
    budget = split.draw(
      found.train.label,
      config["labels"],
      len(found.labels),
      config["seed"],
      mode=config["balance"],
      names=found.labels,
      include_labelled=config["include_labelled"],
      labelled_imbalance=config["labelled_imbalance"],
      unlabelled_imbalance=config["unlabelled_imbalance"],
    )
  except UserError as error:
    raise UserError(f"{error}{dropped and f' ({dropped})'}") from error
  length = config["max_length"]
  labelled = found.train.take(budget.labelled)
  unlabelled = found.train.take(budget.unlabelled)
  notes = [*found.notes, *budget.notes]
  missing = config["missing_view"]
  covered = functools.partial(
    _covered, missing=missing, dropped=dropped, method=method_name(config)
  )
  for name in needs.labelled_views:
    # A labelled text is too dear to drop: without the view it shows itself.
    kinds = config[option(name)]
    has = covered(labelled, kinds, name=option(name), which="labelled")
    if not has.all():
      notes.append(f"{(~has).sum()} labelled rows without their view show their text")
  if needs.views:
    options = dict.fromkeys(map(option, needs.views))
    kept = [
      covered(unlabelled, config[name], name=name, which="unlabelled")
      for name in options
    ]
    keep = np.logical_and.reduce(kept)
    if not keep.all():
      notes.append(f"{(~keep).sum()} unlabelled rows without their view left out")
      unlabelled = unlabelled.take(np.flatnonzero(keep))

  encoder = resolve(config["encoder"])

  def view(rows: Records, name: str, salt: int) -> View:
    kinds, seed = config[option(name)], 2 * config["seed"] + salt
    lacking = "self" if missing == "drop" else missing
    settings = json.dumps([word_noise.FORMAT, CANDIDATES, kinds, lacking, seed])
    if "masked" in kinds:
      settings += json.dumps([tftext.FORMAT, tftext.MASKED])
    stored = [json.dumps(own) for own in rows.column("views")]
    masked: list[int] = []  # candidates

    def make():
      texts, responses, begin, hidden = _candidates(rows, kinds, lacking, seed)
      masked.extend(hidden)
      return texts, responses, begin

    def change(tokens, tokenizer):
      return tftext.mask_words(tokens, masked, tokenizer, seed) if masked else tokens

    return View(
      *tokenize.cached_views(
        encoder,
        [*rows.column("text"), *stored, settings],
        [*rows.column("response"), *[None] * (len(stored) + 1)],
        length,
        make,
        config["tokenizer_backend"],
        change,
      )
    )

  train = TrainSet(
    {name: view(labelled, name, 0) for name in needs.labelled_views},
    {name: view(unlabelled, name, 1) for name in needs.views},
    labelled.label.astype(np.int32),
    unlabelled.label.astype(np.int32) if needs.views else np.zeros(0, np.int32),
  )
  for name in (view for view in needs.views if isinstance(view, SecondCandidate)):
    single = (np.diff(train.unlabelled[name].begin) < 2).sum()
    if single:
      notes.append(
        f"{single} unlabelled rows have one {option(name)} view only, which the method "
        f"reads twice: give more by --config.{option(name)}"
      )
  validation, test = (
    eval_set(part, encoder, length, config["tokenizer_backend"])
    for part in (found.validation, found.test)
  )
  arrays = [train.label]
  for one in (*train.labelled.values(), *train.unlabelled.values()):
    arrays += [one.begin, one.tokens.offset, one.tokens.ids]
  for part in (validation, test):
    arrays += [part.label, part.tokens.offset, part.tokens.ids]
  digest = hashlib.sha256(
    json.dumps([part.rows.column("id") for part in (validation, test)]).encode()
  )
  for array in arrays:
    digest.update(np.ascontiguousarray(array))
  return Sets(
    train,
    validation,
    test,
    found.labels,
    tuple(notes),
    digest.hexdigest(),
    encoder,
  )


def eval_set(
  rows: Records, encoder: Path, max_length: int, backend: str = "hf"
) -> EvalSet:
  """Labelled rows as they are, tokenised."""
  tokens = tokenize.cached(
    encoder, rows.column("text"), rows.column("response"), max_length, backend
  )
  return EvalSet(rows, tokens)


def _without_overlap(found: Splits, on_overlap: str) -> tuple[Splits, str]:
  """Refuses texts of train that are texts of validation or test, or drops them.

  Returns:
    (splits, what was dropped, "" if nothing was).

  Raises:
    UserError: there are some, and `on_overlap` is "error".
  """
  others = {"validation": found.validation, "test": found.test}
  against = exact.known(others.values())
  rows = exact.rows(found.train, against)
  views = exact.views(found.train, against)
  bad = np.flatnonzero(rows[:, 0] >= 0)
  if not len(bad) and not views:
    return found, ""
  if on_overlap == "error":
    row, k, (part, other) = (bad[0], -1, rows[bad[0]]) if len(bad) else views[0]
    name = list(others)[part]
    view = "" if k < 0 else f"view {k + 1}: "
    raise UserError(
      f"{found.train.place(row)}: {view}this text is that of "
      f"{others[name].place(other)} ({name}), too; {len(bad)} texts and {len(views)} "
      "views of train overlap: set "
      "--config.on_overlap=drop to leave them out, and see "
      "python -m ssljax.data.contamination"
    )
  keep = np.flatnonzero(rows[:, 0] < 0)
  train = exact.without(found.train, [(row, k) for row, k, _ in views])
  note = (
    f"{len(bad)} rows of train and {len(views)} views that are texts of validation or "
    "test left out"
  )
  clean = found._replace(train=train.take(keep), notes=(*found.notes, note))
  return clean, note


def option(view: str) -> str:
  """The config key of a view; that of "strong" for a second strong view."""
  return view.first if isinstance(view, SecondCandidate) else view


def _covered(
  rows: Records,
  kinds: Sequence[str],
  missing: str,
  name: str,
  which: str,
  dropped: str,
  method: str,
) -> np.ndarray:
  """bool [n], rows that the view can be had for; all of them unless `missing` drops.

  Args:
    dropped: what `_without_overlap` has dropped, for the error.
    method: its name, for the error.

  Raises:
    UserError: a kind that is not stored for every row, where `missing` is "error".
  """
  stored = [kind for kind in kinds if kind not in MADE]
  keep = np.ones(len(rows), bool)
  for kind in stored:
    has = np.array(
      [any(v["kind"] == kind for v in views or ()) for views in rows.column("views")],
      bool,
    )
    if not has.all() and missing == "error":
      raise UserError(
        f"{method} reads a {name} view (--config.{name}): the view {kind!r} is stored "
        f"for {has.mean():.1%} of the {len(rows)} {which} rows"
        f"{dropped and f' ({dropped})'}{_others(rows)}; make it "
        "(python -m ssljax.augment), or set --config.missing_view=words|self|drop"
      )
    if missing == "drop":
      keep &= has
  return keep


def _others(rows: Records) -> str:
  """Which kinds are stored, for an error."""
  kinds = {v["kind"] for views in rows.column("views") for v in views or ()}
  return f" (stored are {', '.join(sorted(kinds))})" if kinds else ""


def _candidates(
  rows: Records, kinds: Sequence[str], missing: str, seed: int
) -> tuple[list[str], list[str | None], np.ndarray, list[int]]:
  """Candidates, row by row: texts, responses, where a row begins, which to mask."""
  texts, responses = rows.column("text"), rows.column("response")
  stored = [kind for kind in kinds if kind not in MADE]
  made = ()
  if "words" in kinds or (stored and missing == "words"):
    made = word_noise.perturb_all(texts, responses, seed, CANDIDATES)
  views = rows.column("views") if stored else [None] * len(rows)
  out_texts, out_responses, begin, masked = [], [], [0], []
  for i, (text, response) in enumerate(zip(texts, responses, strict=True)):
    some = []
    for kind in kinds:
      if kind == "self":
        some.append((text, response))
      elif kind == "words":
        some += [(a[i], b[i]) for a, b in made]
      elif kind == "masked":
        masked += range(
          len(out_texts) + len(some), len(out_texts) + len(some) + CANDIDATES
        )
        some += [(text, response)] * CANDIDATES
      else:
        own = [v for v in views[i] or () if v["kind"] == kind]
        some += [(v["text"], v["response"] or response) for v in own]
        if not own and missing == "self":
          some.append((text, response))
        elif not own and missing == "words":
          some += [(a[i], b[i]) for a, b in made]
    out_texts += [a for a, _ in some]
    out_responses += [b for _, b in some]
    begin.append(len(out_texts))
  return out_texts, out_responses, np.array(begin, np.int64), masked

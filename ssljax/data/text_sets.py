"""Makes all views of all training rows at the start of a run: formats 1 and 2.

Runs of earlier versions continue with these views. `words` applies
`batches.word_noise` to the texts. Today's format, 3, is in `pool`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.assets.encoders import resolve
from ssljax.data import rows, views
from ssljax.data.batches import tftext, tokenize, word_noise
from ssljax.data.batches.loader import TrainSet, View
from ssljax.data.loaded import Loaded
from ssljax.data.records.records import Records
from ssljax.data.records.schema import COMPUTED_VIEWS
from ssljax.data.views import CANDIDATES
from ssljax.method import Needs


def load(
  config: Mapping[str, Any], needs: Needs, check_encoder: Callable[[Path], Any]
) -> Loaded:
  """Reads the data, draws the labelled budget, creates views and tokenises them.

  The arguments and errors are those of `datasets.load_sets`.
  """
  seed = config["seed"]
  splits, labelled, unlabelled, notes, dropped = rows.load_rows(config)
  names = (*needs.labelled_views, *needs.views)
  kinds = {v["kind"] for stored in splits.train.column("views") for v in stored or ()}
  views.check_kinds(kinds, len(splits.train), names, config, dropped)
  parts = ((_stored(part), len(part)) for part in (labelled, unlabelled))
  covered, lines = views.covered_parts(*parts, needs, config, dropped)
  if not covered.all():
    unlabelled = unlabelled.take(np.flatnonzero(covered))
  encoder = resolve(config["encoder"])
  check_encoder(encoder)
  tokenize_views = lambda part, names, seed: {
    name: tokenize_view(part, name, config, encoder, seed) for name in names
  }
  train = TrainSet(
    tokenize_views(labelled, needs.labelled_views, 2 * seed),
    tokenize_views(unlabelled, needs.views, 2 * seed + 1),
    labelled.label.astype(np.int32),
    unlabelled.label.astype(np.int32) if needs.views else np.zeros(0, np.int32),
  )
  content = [train.label]
  for view in (*train.labelled.values(), *train.unlabelled.values()):
    content += [view.begin, view.tokens.offset, view.tokens.ids]
  notes = (*notes, *lines, *views.describe_single(train.unlabelled))
  evaluated = (splits.validation, splits.test)
  return Loaded(train, *evaluated, splits.labels, notes, content, encoder)


def _stored(part: Records) -> views.Stored:
  """The kinds that the rows store."""
  # (kind, whether it is a fallback, which augmentation stores for a text without views)
  kinds_of = [
    {(v["kind"], (v["origin"] or "").startswith("fallback:")) for v in stored or ()}
    for stored in part.column("views")
  ]
  has = lambda *kind: np.array([kind in kinds for kinds in kinds_of], bool)
  names = dict.fromkeys(name for kinds in kinds_of for name, _ in kinds)
  return {name: (has(name, False), has(name, True)) for name in names}


def tokenize_view(
  part: Records, name: str, config: Mapping[str, Any], encoder: Path, seed: int
) -> View:
  """Creates and tokenises one view of the rows; results are cached.

  Args:
    name: the view, such as "weak".
    config: uses the view's key (such as "weak"), missing_view, view_format, max_length,
      tokenizer_backend, tokenization and verify.
    encoder: folder of the encoder.
    seed: for the kinds "words" and "masked".
  """
  kinds = config[views.config_key(name)]
  fallback = config["missing_view"].replace("drop", "self")
  version = config["view_format"]
  settings = json.dumps([version, CANDIDATES, kinds, fallback, seed])
  if "masked" in kinds:
    settings += json.dumps([tftext.FORMAT, tftext.MASKED])
  stored = [json.dumps(stored) for stored in part.column("views")]
  masked: list[int] = []  # indices of candidates, from `_candidates`
  mask = lambda tokens, tokenizer: (
    tftext.mask_words(tokens, masked, tokenizer, seed) if masked else tokens
  )
  tokens, begin = tokenize.encode_views_cached(
    encoder,
    [*part.column("text"), *stored, settings],
    [*part.column("response"), *[None] * (len(stored) + 1)],
    config["max_length"],
    lambda: _candidates(part, kinds, fallback, seed, version, masked),
    config["tokenizer_backend"],
    mask,
    tokenization=config["tokenization"],
    verify=config["verify"],
  )
  return View(tokens, begin)


def _candidates(
  part: Records,
  kinds: Sequence[str],
  fallback: str,
  seed: int,
  version: int,
  masked: list[int],
) -> tuple[Sequence[str], Sequence[str | None], np.ndarray]:
  """Candidates of all rows: (texts, responses, begin [n + 1]); extends `masked`."""
  texts, responses = part.column("text"), part.column("response")
  has_stored = any(kind not in COMPUTED_VIEWS for kind in kinds)
  perturbed = ()
  if "words" in kinds or (has_stored and fallback == "words"):
    perturbed = word_noise.perturb_all(texts, responses, seed, CANDIDATES, version)
  stored = part.column("views")
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
        own = [view for view in stored[i] or () if view["kind"] == kind]
        candidates += [(view["text"], view["response"] or pair[1]) for view in own]
        if not own and fallback == "self":
          candidates.append(pair)
        elif not own and fallback == "words":
          candidates += noisy
    begin.append(len(candidates))
  new_texts, new_responses = zip(*candidates, strict=True) if candidates else ((), ())
  return new_texts, new_responses, np.array(begin, np.int64)

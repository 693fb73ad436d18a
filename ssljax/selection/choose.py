"""Chooses rows of a pool: scores them, applies a strategy, leaves out near-duplicates.

Predictions are made in chunks. If the strategy needs embeddings and the pool has more
than LIMIT rows, only LIMIT of them are candidates: one half are those with the smallest
margin, the other half is drawn at random (for `diversity`, all are). So memory holds
the texts, the probabilities of all rows and the embeddings of LIMIT rows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ssljax.data.dedup.near import SetIndex
from ssljax.data.records.records import Records, concat, from_rows
from ssljax.errors import UserError
from ssljax.evals.classification import softmax
from ssljax.inference.classifier import SafetyClassifier
from ssljax.runtime.progress import Progress
from ssljax.selection import reasons, strategies
from ssljax.selection.strategies import STRATEGIES, Candidates, State

LIMIT = 20_000  # candidates with an embedding
CHUNK = 1024  # texts that are scored together
NEAR = 0.6  # similarity of near-duplicates, as in `contamination`
WITHOUT_EMBEDDINGS = ("uncertainty", "margin", "disagreement")
BALANCED = ("mixed",)  # strategies that balance the predicted classes
SPARE = 4  # rows that `random` scores per row that it chooses, as some are left out


class Chosen(NamedTuple):
  """The chosen rows, best first."""

  rows: Records
  predicted: np.ndarray  # i64 [n]
  probability: np.ndarray  # f64 [n, C], calibrated
  reasons: list[str]
  left_out: Mapping[str, int]  # reason -> number of rows


def choose(
  classifier: SafetyClassifier,
  pool: Records,
  labelled: Sequence[Records],
  others: Sequence[Records],
  number: int,
  strategy: str = "mixed",
  seed: int = 0,
) -> Chosen:
  """Chooses at most `number` rows.

  Args:
    pool: unlabelled rows with different texts.
    labelled: labelled texts; near-duplicates of them are left out.
    others: more texts whose near-duplicates are left out, such as validation.
    strategy: one of `strategies.STRATEGIES`.
    seed: the same seed chooses the same rows.

  Raises:
    UserError: the strategy needs several voters.
  """
  rng = np.random.default_rng(seed)
  left_out: dict[str, int] = {}
  rows = np.arange(len(pool))
  if strategy == "random":
    rows = rng.permutation(rows)[: SPARE * number + 100]
  elif strategy == "diversity":
    rows = np.sort(rng.permutation(rows)[:LIMIT])
  elif strategy not in WITHOUT_EMBEDDINGS and len(rows) > LIMIT:
    scored = predict(classifier, pool, rows, embed=False)
    rows = rows[_shortlist(scored, rng)]
  embed = strategy not in (*WITHOUT_EMBEDDINGS, "random")
  predicted = predict(classifier, pool, rows, embed)
  if strategy == "disagreement" and predicted.votes.shape[1] < 2:
    raise UserError(
      "--strategy=disagreement: the model has a single classifier; train one with "
      "voters, such as multimatch or multihead_cotraining, or use another strategy"
    )
  known = concat([from_rows([]), *labelled])
  if strategy == "diversity" and len(known):
    vectors = predict(classifier, known, np.arange(len(known)), embed).embedding
    predicted = predicted._replace(labelled=vectors)
  is_open = ~np.isnan(predicted.probability[:, 0])
  if unreadable := int((~is_open).sum()):
    left_out["have no word that the model knows"] = unreadable
  # NaN would spread; these rows aren't open.
  predicted = Candidates(*(np.nan_to_num(part) for part in predicted))
  state = State(rng, is_open)
  near = SetIndex(concat([known, *others]), NEAR)
  function, places = STRATEGIES[strategy], []
  while len(places) < number and state.open.any():
    wanted = number - len(places)
    if strategy in BALANCED:
      proposed = strategies.balanced(function, predicted, wanted, state)
    else:
      proposed = [*function(predicted, wanted, state)]
    for place in proposed:
      state.open[place] = False
      if near.add_unless_near(*_row(pool, int(rows[place]))) is None:
        state.chosen.append(place)
        places.append(place)
      else:
        what = "are near-duplicates of known or chosen texts"
        left_out[what] = left_out.get(what, 0) + 1
  explain = reasons.explainer(strategy, predicted, classifier.labels)
  return Chosen(
    pool.take(rows[places]),
    predicted.predicted[places],
    predicted.probability[places],
    [explain(place, places[:i]) for i, place in enumerate(places)],
    left_out,
  )


def predict(
  classifier: SafetyClassifier, records: Records, rows: np.ndarray, embed: bool
) -> Candidates:
  """What the model predicts for rows of records; NaN for texts without a known word.

  Args:
    embed: whether to keep the embeddings; they have width 0 otherwise.
  """
  parts = []
  with Progress(len(rows), "row", label="scoring") as progress:
    for begin in range(0, len(rows), CHUNK):
      chunk = rows[begin : begin + CHUNK]
      part = records.take(chunk)
      texts = list(zip(part.column("text"), part.column("response"), strict=True))
      outputs = classifier.outputs(texts, _names(part))
      probability = softmax(outputs.logits, classifier.temperature)
      probability[outputs.unreadable] = np.nan
      votes = softmax(outputs.votes, classifier.temperature)
      vectors = outputs.embeddings if embed else outputs.embeddings[:, :0]
      length = np.linalg.norm(vectors, axis=1, keepdims=True)
      unit = vectors / np.maximum(length, 1e-12)
      parts.append((probability, votes.astype(np.float32), unit))
      progress.update(len(chunk))
  probability, votes, unit = (
    np.concatenate(column) for column in zip(*parts, strict=True)
  )
  return Candidates(probability, votes, unit, unit[:0])


def _shortlist(scored: Candidates, rng: np.random.Generator) -> np.ndarray:
  """LIMIT places: one half with the smallest margins, the others at random."""
  margin = strategies.margin(scored.probability)
  order = np.argsort(np.where(np.isnan(margin), np.inf, margin), kind="stable")
  first, rest = order[: LIMIT // 2], order[LIMIT // 2 :]
  return np.sort(np.concatenate([first, rng.permutation(rest)[: LIMIT - len(first)]]))


def _row(pool: Records, row: int) -> tuple[str, str, str | None]:
  return tuple(pool.table[name][row].as_py() for name in ("id", "text", "response"))


def _names(records: Records) -> Callable[[int], str]:
  return lambda i: records.location(i)

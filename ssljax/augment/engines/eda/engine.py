"""Easy data augmentation: random word replacement, insertion, swaps and deletion.

EDA (Wei & Zou 2019, arXiv 1901.11196) has `replace`, `insert`, `swap` and `delete`. A
view uses one of them on a share `alpha` of the words. This engine adds two operations:
`span` deletes consecutive words, and `tfidf` is UDA's word replacement (Xie et al.
2020, arXiv 1904.12848), which mostly replaces words with a low TF-IDF.

Unlike the authors' code, this engine keeps punctuation, capitalization and line breaks,
and never changes URLs, e-mail addresses or numbers. By default, synonyms come
from GloVe vectors. From WordNet, it takes only synonyms of frequent senses.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np

from ssljax.augment import seeded, word_edits
from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.augment.engines.eda import glove, tfidf
from ssljax.augment.engines.eda.stop_words import is_stop_word
from ssljax.augment.engines.eda.wordnet import load_synonyms
from ssljax.augment.word_edits import Pieces
from ssljax.data.batches.word_noise import MIN_WORDS
from ssljax.errors import UserError
from ssljax.options import Natural, Range, Share

OPERATIONS = ("replace", "insert", "swap", "delete", "span", "tfidf")


def make(
  *,
  operations: Annotated[
    Sequence[str], "operations, which the views of a text use in turn"
  ] = ("replace", "insert", "swap", "delete"),
  alpha_replace: Annotated[Share, "for replace: share of words to replace"] = 0.1,
  alpha_insert: Annotated[Share, "for insert: insertions per word"] = 0.1,
  alpha_swap: Annotated[Share, "for swap: swaps per word"] = 0.1,
  alpha_delete: Annotated[Share, "for delete: share of words to delete"] = 0.1,
  alpha_span: Annotated[Share, "for span: share of words to delete"] = 0.1,
  alpha_tfidf: Annotated[Share, "for tfidf: share of words to replace"] = 0.1,
  synonyms: Annotated[Literal["glove", "wordnet"], "source of the synonyms"] = "glove",
  threshold: Annotated[
    float, Range(0.01, 0.99), "least cosine of GloVe neighbours"
  ] = 0.75,
  wordnet: Annotated[str, "folder of WordNet; '': search the usual places"] = "",
  data: Annotated[str, "dataset whose words tfidf counts; set by the pipeline"] = "",
  seed: Annotated[Natural, "seed of all random draws"] = 0,
) -> Engine:
  """Creates the engine. The first operation on a text is random.

  Raises:
    UserError: an operation is unknown, its alpha is 0, or its synonyms or statistics
      can't be loaded.
  """
  alpha = alpha_replace, alpha_insert, alpha_swap, alpha_delete, alpha_span, alpha_tfidf
  alphas = dict(zip(OPERATIONS, alpha, strict=True))
  for name in operations or ("none",):
    if name not in alphas:
      raise UserError(f"config.operations: {name}; choose from {', '.join(OPERATIONS)}")
    if not alphas[name]:
      raise UserError(
        f"config.alpha_{name}={alphas[name]}: must be above 0; to turn {name} off,"
        " remove it from config.operations"
      )
  settings: dict[str, Any] = {"operations": list(operations), "seed": seed}
  settings["alpha"] = {name: alphas[name] for name in operations}
  synonyms_of = statistics = None  # synonyms_of maps a lower-case word to synonyms
  if "replace" in operations or "insert" in operations:
    if synonyms == "wordnet":
      synonyms_of, version = load_synonyms(wordnet)
      settings["synonyms"] = f"wordnet {version}"
    else:
      synonyms_of = glove.load_neighbours(threshold).get
      settings["synonyms"] = f"{glove.ASSET} {threshold}"
  if "tfidf" in operations:
    statistics = tfidf.load_statistics(data)
    settings["counted"] = statistics.digest
  functions = {
    "replace": lambda p, at, rng: replace_words(p, at, rng, alpha_replace, synonyms_of),
    "insert": lambda p, at, rng: insert_words(p, at, rng, alpha_insert, synonyms_of),
    "swap": lambda p, at, rng: swap_words(p, at, rng, alpha_swap),
    "delete": lambda p, at, rng: delete_words(p, at, rng, alpha_delete),
    "span": lambda p, at, rng: delete_span(p, at, rng, alpha_span),
    "tfidf": lambda p, at, rng: replace_by_tfidf(p, at, rng, alpha_tfidf, statistics),
  }

  def augment(text: str, number: int) -> str:
    """Returns a changed text, or the text itself if no operation applies."""
    first = seeded.number(seed, text) + number
    rng = seeded.generator(seed, text, number)
    for turn in range(len(operations)):
      pieces = word_edits.split(text)
      positions = word_edits.editable(pieces)
      if len(positions) < MIN_WORDS:
        break
      name = operations[(first + turn) % len(operations)]
      if functions[name](pieces, positions, rng):
        return pieces.joined()
    return text

  def make_views(sources: Sequence[Source], number: int):
    for i, (_, text, response) in enumerate(sources):
      view = Candidate(augment(text, number), response and augment(response, number))
      if view[:2] != (text, response):
        yield i, [view]
      else:
        yield i, [] if number else [Candidate(problem="no word to change")]

  return Engine("eda", settings, make_views, stored=False)


# Each operation changes a share `alpha` of the words in place, only at `positions`, and
# returns whether anything changed.


def replace_words(pieces: Pieces, positions, rng, alpha, synonyms_of) -> bool:
  """Replaces random words, wherever they occur, with a synonym; keeps stop words."""
  synonyms = _draw_synonyms(pieces, positions, rng, alpha, synonyms_of)
  for i in positions:
    word = pieces.words[i]
    if synonym := synonyms.get(word.lower()):
      pieces.words[i] = word_edits.match_case(synonym, word)
  return bool(synonyms)


def insert_words(pieces: Pieces, positions, rng, alpha, synonyms_of) -> bool:
  """Inserts synonyms of random words at random positions; ignores stop words."""
  synonyms = _draw_synonyms(pieces, positions, rng, alpha, synonyms_of)
  for word in synonyms.values():
    word_edits.insert(pieces, int(rng.random() * (len(pieces.words) + 1)), word)
  return bool(synonyms)


def swap_words(pieces: Pieces, positions, rng, alpha) -> bool:
  """Swaps random pairs of words."""
  before = list(pieces.words)
  draws = rng.random((_share(alpha, len(before)), 2)) * len(positions)
  for first, second in draws.tolist():
    i, j = positions[int(first)], positions[int(second)]
    pieces.words[i], pieces.words[j] = pieces.words[j], pieces.words[i]
  return pieces.words != before


def delete_words(pieces: Pieces, positions, rng, alpha) -> bool:
  """Deletes each word with probability alpha, but at least one word and never all."""
  draws = rng.random(len(positions))
  deleted = np.flatnonzero(draws < alpha)
  if not len(deleted):
    deleted = [draws.argmin()]
  if len(deleted) == len(pieces.words):
    deleted = np.delete(deleted, draws.argmax())
  word_edits.delete(pieces, [positions[i] for i in deleted])
  return True


def delete_span(pieces: Pieces, positions, rng, alpha) -> bool:
  """Deletes consecutive words."""
  length = min(_share(alpha, len(pieces.words)), len(positions) - 1)
  first = int(rng.random() * (len(positions) - length + 1))
  word_edits.delete(pieces, positions[first : first + length])
  return True


def replace_by_tfidf(pieces: Pieces, positions, rng, alpha, statistics) -> bool:
  """Replaces random words, more often those with a low TF-IDF, as UDA does.

  Word i of n is replaced with probability alpha n (C - s_i) / sum_j (C - s_j), where
  s_i is the TF-IDF of word i in this text and C = max_j s_j.
  """
  if not statistics.words:
    return False
  lower = [pieces.words[i].lower() for i in positions]
  n, counts = len(lower), Counter(lower)
  idf = [statistics.idf.get(word, statistics.unknown) for word in lower]
  scores = np.array([counts[word] for word in lower]) * idf
  weights = scores.max() - scores
  if not weights.any():
    weights += 1.0
  replaced = np.flatnonzero(rng.random(n) < alpha * n * weights / weights.sum())
  new = np.searchsorted(statistics.cumulative, rng.random(len(replaced)), side="right")
  for i, k in zip(replaced, new, strict=True):
    old = pieces.words[positions[i]]
    pieces.words[positions[i]] = word_edits.match_case(statistics.words[k], old)
  return len(replaced) > 0


def _share(alpha: float, count: int) -> int:
  return max(1, int(alpha * count))


def _draw_synonyms(pieces, positions, rng, alpha, synonyms_of) -> dict[str, str]:
  """Draws a share `alpha` of the words, and maps each of them to a random synonym."""
  words = [pieces.words[i].lower() for i in positions]
  drawn = {}
  for k in rng.random(len(words)).argsort():
    word = words[k]
    if word in drawn or is_stop_word(word):
      continue
    if synonyms := synonyms_of(word):
      drawn[word] = synonyms[int(rng.random() * len(synonyms))]
      if len(drawn) == _share(alpha, len(pieces.words)):
        break
  return drawn

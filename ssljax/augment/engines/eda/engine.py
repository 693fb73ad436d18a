"""EDA and its kin: words replaced, put in, swapped and taken out, by chance.

EDA (Wei & Zou 2019, arXiv 1901.11196): `replace`, `insert`, `swap` and `delete`, one of
them a view, each on a share `alpha` of the words. Added: `span` takes out words that
stand together, and `tfidf` is the word replacement of UDA (Xie et al. 2020, arXiv
1904.12848): the less a word says in its text, the likelier another one stands for it.

Unlike the authors' code: words change where they stand, so that punctuation, capitals
and line breaks stay; addresses and numbers stay; a WordNet synonym is of one of the
frequent senses; synonyms may come from GloVe.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ssljax.augment import seeded
from ssljax.augment import words as pieces
from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.augment.engines.eda import glove, tfidf, wordnet
from ssljax.augment.engines.eda.stop_words import is_stop_word
from ssljax.augment.words import Pieces
from ssljax.data.batches.word_noise import FEWEST
from ssljax.errors import UserError

OPERATIONS = ("replace", "insert", "swap", "delete", "span", "tfidf")
Operation = Callable[[Pieces, list[int], np.random.Generator], bool]


def make(
  *,
  operations: Sequence[str] = ("replace", "insert", "swap", "delete"),
  alpha_replace: float = 0.1,
  alpha_insert: float = 0.1,
  alpha_swap: float = 0.1,
  alpha_delete: float = 0.1,
  alpha_span: float = 0.1,
  alpha_tfidf: float = 0.1,
  synonyms: str = "glove",
  threshold: float = 0.75,
  wordnet: str = "",
  data: str = "",
  seed: int = 0,
) -> Engine:
  """The engine.

  Args:
    operations: to choose from; a text's views take them in turn, from a drawn one on.
    alpha_replace, …: share of the words that an operation changes, 0 to 1.
    synonyms: "glove" or "wordnet".
    threshold: least cosine of GloVe neighbours.
    wordnet: folder of WordNet; "" looks at the usual places.
    data: the data set whose words `tfidf` counts; whoever runs the engine names it.

  Raises:
    UserError: an unknown name, an alpha out of range, or a resource that is missing.
  """
  alphas = {
    "replace": alpha_replace,
    "insert": alpha_insert,
    "swap": alpha_swap,
    "delete": alpha_delete,
    "span": alpha_span,
    "tfidf": alpha_tfidf,
  }
  unknown = [name for name in operations if name not in OPERATIONS]
  if unknown or not operations:
    raise UserError(
      f"config.operations: {unknown[0] if unknown else 'none'}; choose from"
      f" {', '.join(OPERATIONS)}"
    )
  for name in operations:
    if not 0 < alphas[name] <= 1:
      raise UserError(
        f"config.alpha_{name}={alphas[name]}: not above 0 and at most 1; to do without,"
        f" take {name} out of config.operations"
      )
  settings = {
    "operations": list(operations),
    "alpha": {name: alphas[name] for name in operations},
    "seed": seed,
  }
  near: Callable[[str], Sequence[str]] = lambda word: ()
  if "replace" in operations or "insert" in operations:
    near, settings["synonyms"] = _synonyms(synonyms, threshold, wordnet)
  statistics = None
  if "tfidf" in operations:
    statistics = tfidf.read(data)
    settings["counted"] = statistics.digest
  all_ways: dict[str, Operation] = {
    "replace": lambda p, at, rng: replace(p, at, rng, alpha_replace, near),
    "insert": lambda p, at, rng: insert(p, at, rng, alpha_insert, near),
    "swap": lambda p, at, rng: swap(p, at, rng, alpha_swap),
    "delete": lambda p, at, rng: delete(p, at, rng, alpha_delete),
    "span": lambda p, at, rng: span(p, at, rng, alpha_span),
    "tfidf": lambda p, at, rng: replace_by_tfidf(p, at, rng, alpha_tfidf, statistics),
  }
  ways = [all_ways[name] for name in operations]

  def changed(text: str, number: int) -> str:
    """A text in other words; one that cannot be changed comes back as it is."""
    first = seeded.number(seed, text) % len(ways)
    rng = seeded.generator(seed, text, number)
    for turn in range(len(ways)):  # where one has no hold, the next one has its go
      split = pieces.split(text)
      places = pieces.changeable(split)
      if len(places) < FEWEST:
        break
      if ways[(first + number + turn) % len(ways)](split, places, rng):
        return split.joined()
    return text

  def make_views(
    sources: Sequence[Source], number: int
  ) -> Iterator[tuple[int, Sequence[Candidate]]]:
    for i, (id, text, response) in enumerate(sources):
      new = Source(id, changed(text, number), response and changed(response, number))
      if new != sources[i]:
        yield i, [Candidate(new.text, new.response)]
      else:
        yield i, [] if number else [Candidate(problem="no word to change")]

  return Engine("eda", settings, make_views, stored=False)


def _synonyms(name: str, threshold: float, folder: str):
  """(word -> its synonyms, what stands in the settings)."""
  if name == "wordnet":
    near, version = wordnet.make(folder)
    return near, f"wordnet {version}"
  if name != "glove":
    raise UserError(f"config.synonyms={name}: choose glove or wordnet")
  if not 0 < threshold < 1:
    raise UserError(f"config.threshold={threshold}: not between 0 and 1")
  table = glove.neighbours(threshold)
  return lambda word: table.get(word, ()), f"{glove.ASSET} {threshold}"


# The operations change the pieces in place, at `places`, and say whether they did.


def replace(found: Pieces, places, rng, alpha: float, near) -> bool:
  """Synonyms stand for drawn words that are no stop words, wherever these occur."""
  changed = 0
  words = found.words
  small = {i: words[i].lower() for i in places}
  for old, synonyms in _with_synonyms(small, rng, near):
    new = synonyms[int(rng.random() * len(synonyms))]
    for i, word in small.items():
      if word == old:
        words[i] = pieces.like(new, words[i])
    changed += 1
    if changed >= _share(alpha, len(words)):
      break
  return changed > 0


def insert(found: Pieces, places, rng, alpha: float, near) -> bool:
  """Synonyms of drawn words that are no stop words come in anywhere."""
  new = []
  wanted = _share(alpha, len(found.words))
  small = {i: found.words[i].lower() for i in places}
  for _, synonyms in _with_synonyms(small, rng, near):
    new.append(synonyms[int(rng.random() * len(synonyms))])
    if len(new) == wanted:
      break
  for word in new:
    pieces.insert(found, int(rng.random() * (len(found.words) + 1)), word)
  return bool(new)


def swap(found: Pieces, places, rng, alpha: float) -> bool:
  """Drawn pairs of words change places."""
  before = list(found.words)
  words = found.words
  for one, other in (rng.random((_share(alpha, len(words)), 2)) * len(places)).tolist():
    i, j = places[int(one)], places[int(other)]
    words[i], words[j] = words[j], words[i]
  return words != before


def delete(found: Pieces, places, rng, alpha: float) -> bool:
  """Each word goes with probability alpha; one stays, and at least one goes."""
  drawn = rng.random(len(places))
  gone = np.flatnonzero(drawn < alpha)
  if not len(gone):
    gone = [drawn.argmin()]
  if len(gone) == len(found.words):
    gone = np.delete(gone, drawn.argmax())
  pieces.delete(found, [places[i] for i in gone])
  return True


def span(found: Pieces, places, rng, alpha: float) -> bool:
  """Words that stand together go, as many as alpha says."""
  length = min(_share(alpha, len(found.words)), len(places) - 1)
  first = int(rng.random() * (len(places) - length + 1))
  pieces.delete(found, places[first : first + length])
  return True


def replace_by_tfidf(
  found: Pieces, places, rng, alpha: float, known: tfidf.Statistics
) -> bool:
  """UDA's: word i goes with probability alpha n (C - s_i) / sum_j (C - s_j).

  s_i is the TF-IDF of word i in its text and C the greatest of them.
  """
  words = found.words
  if not known.words:
    return False
  small = [words[i].lower() for i in places]
  times = Counter(small)
  score = np.array([times[w] * known.idf.get(w, known.unknown) for w in small])
  spare = score.max() - score
  if not spare.any():
    spare = np.ones(len(places))
  hit = np.flatnonzero(
    rng.random(len(places)) < alpha * len(places) * spare / spare.sum()
  )
  drawn = np.searchsorted(known.cumulative, rng.random(len(hit)), side="right")
  for i, new in zip(hit.tolist(), drawn.tolist(), strict=True):
    place = places[i]
    words[place] = pieces.like(known.words[new], words[place])
  return len(hit) > 0


def _share(alpha: float, count: int) -> int:
  return max(1, int(alpha * count))


def _with_synonyms(small: dict[int, str], rng, near):
  """(word, its synonyms) of each different word, in drawn order."""
  words = list(small.values())
  seen = set()
  for k in rng.random(len(words)).argsort().tolist():
    word = words[k]
    if word in seen or is_stop_word(word):
      continue
    seen.add(word)
    if synonyms := near(word):
      yield word, synonyms

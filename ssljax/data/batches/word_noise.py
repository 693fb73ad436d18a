"""Random word deletion, swaps and replacements: the default strong view, `words`.

Each word may be deleted, swapped with the next word, or replaced by a random word of
the dataset (frequent words more often). Each change has a small probability. These are
the operations of EDA (arXiv 1901.11196) and UDA (arXiv 1904.12848) that need no
thesaurus. They ignore meaning, so they can turn a harmful text into a harmless text.
Stored paraphrases make a better strong view.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# In scripts without spaces between words, each character is a word.
SINGLE = r"\u3040-\u30ff\u3400-\u9fff"
WORD = re.compile(rf"([{SINGLE}]|[^\W{SINGLE}]+(?:['’-][^\W{SINGLE}]+)*)")
MAX_WORD_LENGTH = 30  # longer words (URLs, codes, unspaced scripts) aren't changed
MIN_WORDS = 3  # shorter texts aren't changed: every word matters
FORMAT = 1  # of the perturbation; increase it when the same seed gives other texts
MAX_COUNTED_TEXTS = 50_000  # enough to estimate word frequencies


class Vocabulary(NamedTuple):
  words: list[str]  # [V], sorted
  cumulative: np.ndarray  # f64 [V], cumulative frequencies; the last is 1


def count_words(texts: Sequence[str]) -> Vocabulary:
  """Counts the words of the texts, or of a sample of about MAX_COUNTED_TEXTS."""
  count = Counter()
  for text in texts[:: max(1, len(texts) // MAX_COUNTED_TEXTS)]:
    count.update(word for word in WORD.findall(text) if len(word) <= MAX_WORD_LENGTH)
  words = sorted(count)  # so that the order of the texts doesn't matter
  total = np.cumsum([count[word] for word in words], dtype=np.float64)
  return Vocabulary(words, total / total[-1] if words else total)


def perturb(
  text: str, rng: np.random.Generator, vocabulary: Vocabulary, rate: float = 0.1
) -> str:
  """Deletes, swaps and replaces words; keeps punctuation and white space.

  Args:
    text: any string; with fewer than MIN_WORDS words it is returned unchanged.
    rng: determines the result, together with the other arguments.
    vocabulary: replacements are drawn from it.
    rate: probability of each of the three changes for each word; at most 1/3.
  """
  parts = WORD.split(text)
  gaps, words = parts[::2], parts[1::2]
  n = len(words)
  if n < MIN_WORDS:
    return text
  change = rng.random(n)
  changed = np.flatnonzero(change < 3 * rate)
  uniform = rng.random(len(changed))
  replacement = np.minimum(
    np.searchsorted(vocabulary.cumulative, uniform, side="right"),
    len(vocabulary.words) - 1,
  )
  deleted = []
  for i, k in zip(changed.tolist(), replacement.tolist(), strict=True):
    if len(words[i]) > MAX_WORD_LENGTH:
      continue
    if change[i] < rate:
      deleted.append(i)
    elif change[i] < 2 * rate:
      if i + 1 < n:
        words[i], words[i + 1] = words[i + 1], words[i]
    elif vocabulary.words:
      new = vocabulary.words[k]
      words[i] = new[:1].upper() + new[1:] if words[i][:1].isupper() else new
  if len(deleted) == n:
    deleted.remove(int(uniform[0] * n))  # keep one random word
  for i in reversed(deleted):
    del words[i]
    gaps[i : i + 2] = [_join_gaps(gaps[i], gaps[i + 1])]
  pieces = [piece for pair in zip(gaps, words, strict=False) for piece in pair]
  # If the text ended with a word that was deleted, strip the gap before that word.
  pieces.append(gaps[-1] if parts[-1] else gaps[-1].rstrip())
  return "".join(pieces)


def _join_gaps(before: str, after: str) -> str:
  """The gap that replaces two gaps when the word between them is deleted."""
  if after.isspace():  # keep the gap before, unless that would lose a line break
    return after if before.isspace() and "\n" in after else before
  if before.isspace():
    return after or before
  return before + (after.lstrip(" ") if before[-1:].isspace() else after)


def perturb_all(
  texts: Sequence[str],
  responses: Sequence[str | None],
  seed: int,
  candidates: int = 1,
) -> list[list[tuple[str, str | None]]]:
  """Perturbs every row; candidate c of row r depends on (seed, r, c) and all texts.

  Args:
    texts, responses: n strings each; a response may be None. A text and its response
      are perturbed independently.
    seed: any integer >= 0.
    candidates: number of perturbed copies.

  Returns:
    For each candidate, n pairs (text, response).
  """
  vocabulary = count_words([*texts, *(r for r in responses if r is not None)])
  perturbed = []
  for candidate in range(candidates):
    pairs = []
    for row, (text, response) in enumerate(zip(texts, responses, strict=True)):
      rng = np.random.Generator(np.random.PCG64((seed, row, candidate)))
      new_text = perturb(text, rng, vocabulary)
      pairs.append((new_text, response and perturb(response, rng, vocabulary)))
    perturbed.append(pairs)
  return perturbed

"""Random word deletion, swaps and replacements: the default strong view, `words`.

Each word may be deleted, swapped with the next word, or replaced by a random word of
the dataset (frequent words more often). Each change has a small probability. These are
the operations of EDA (arXiv 1901.11196) and UDA (arXiv 1904.12848) that need no
thesaurus. They ignore meaning, so they can turn a harmful text into a harmless text.
Stored paraphrases make a better strong view.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


def _marks(codes: Iterable[int]) -> str:
  """The combining marks among the characters with these codes."""
  return "".join(chr(c) for c in codes if unicodedata.category(chr(c)).startswith("M"))


# Vowel signs, tone marks and accents belong to the letter before them, and so do the
# joiners of Persian and Indic words. \w matches none of them. `re` is slow if a set has
# characters beyond U+FFFF, so these are only tried after such a character.
_RARE_MARKS = _marks((*range(0x10000, 0x1F000), *range(0xE0100, 0xE01F0)))
MARK = (
  rf"(?:[\u200c\u200d{_marks(range(0x300, 0xFFFF))}]|(?![\0-\uffff])[{_RARE_MARKS}])"
)
# In scripts without spaces between words, each character is a word.
SINGLE = r"\u3040-\u30ff\u3400-\u9fff"
# In those of Southeast Asia, it is a letter with its vowels and the letters below it.
CLUSTERED = (
  r"\u0e01-\u0e4e\u0e81-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u1780-\u17d3"
)
_VOWELS_BEFORE = r"\u0e40-\u0e44\u0ec0-\u0ec4"
_VOWELS_AFTER = r"\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3"
_CLUSTER = (
  rf"[{_VOWELS_BEFORE}]?[{SINGLE}{CLUSTERED}]"
  rf"(?:[\u1039\u17d2][{CLUSTERED}]|[{_VOWELS_AFTER}]|{MARK})*"
)
_LETTER = rf"[^\W{SINGLE}{CLUSTERED}]"
_LETTERS = rf"{_LETTER}+(?:{MARK}+{_LETTER}*)*"
WORD = re.compile(rf"({_LETTERS}(?:['’-]{_LETTERS})*|{_CLUSTER})")
# Version 0.1.0 took combining marks for the borders of words.
WORDS = {
  1: re.compile(rf"([{SINGLE}]|[^\W{SINGLE}]+(?:['’-][^\W{SINGLE}]+)*)"),
  2: WORD,
}
MAX_WORD_LENGTH = 30  # longer words (URLs, codes) aren't changed
MIN_WORDS = 3  # shorter texts aren't changed: every word matters
MAX_COUNTED_TEXTS = 50_000  # enough to estimate word frequencies


class Vocabulary(NamedTuple):
  words: list[str]  # [V], sorted
  cumulative: np.ndarray  # f64 [V], cumulative frequencies; the last is 1


def count_words(texts: Sequence[str], pattern: re.Pattern[str] = WORD) -> Vocabulary:
  """Counts the words of the texts, or of a sample of about MAX_COUNTED_TEXTS."""
  count = Counter()
  for text in texts[:: max(1, len(texts) // MAX_COUNTED_TEXTS)]:
    count.update(word for word in pattern.findall(text) if len(word) <= MAX_WORD_LENGTH)
  words = sorted(count)  # so that the order of the texts doesn't matter
  total = np.cumsum([count[word] for word in words], dtype=np.float64)
  return Vocabulary(words, total / total[-1] if words else total)


def perturb(
  text: str,
  rng: np.random.Generator,
  vocabulary: Vocabulary,
  rate: float = 0.1,
  pattern: re.Pattern[str] = WORD,
) -> str:
  """Deletes, swaps and replaces words; keeps punctuation and white space.

  Args:
    text: any string; with fewer than MIN_WORDS words it is returned unchanged.
    rng: determines the result, together with the other arguments.
    vocabulary: replacements are drawn from it.
    rate: probability of each of the three changes for each word; at most 1/3.
    pattern: matches a word; has one group.
  """
  parts = pattern.split(text)
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
  version: int = 2,
) -> list[list[tuple[str, str | None]]]:
  """Perturbs every row; candidate c of row r depends on (seed, r, c) and all texts.

  Args:
    texts, responses: n strings each; a response may be None. A text and its response
      are perturbed independently.
    seed: any integer >= 0.
    candidates: number of perturbed copies.
    version: a key of WORDS; increase it when the same seed gives other texts.

  Returns:
    For each candidate, n pairs (text, response).
  """
  pattern = WORDS[version]
  everything = [*texts, *(r for r in responses if r is not None)]
  vocabulary = count_words(everything, pattern)
  change = lambda text, rng: perturb(text, rng, vocabulary, pattern=pattern)
  perturbed = []
  for candidate in range(candidates):
    pairs = []
    for row, (text, response) in enumerate(zip(texts, responses, strict=True)):
      rng = np.random.Generator(np.random.PCG64((seed, row, candidate)))
      pairs.append((change(text, rng), response and change(response, rng)))
    perturbed.append(pairs)
  return perturbed

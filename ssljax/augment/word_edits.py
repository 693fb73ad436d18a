"""Splits a text into words and gaps, and edits the words in place.

The gaps (punctuation, white space and line breaks) are kept, except around deleted
words. Some words are never edited: addresses and codes. The random edits of the strong
view "words" are in data/batches/word_noise.py.
"""

import itertools
import re
from typing import NamedTuple

from ssljax.data.batches import word_noise

ADDRESS = r"(?:https?://|www\.)\S+|[\w.+-]{1,64}@[\w-]+\.[\w.-]*\w"
ADDRESS_OR_WORD = re.compile(rf"({ADDRESS}|{word_noise.WORD.pattern[1:-1]})")
FIXED = re.compile(r"[\d_/@]|www\.")


class Pieces(NamedTuple):
  """A text as gaps[0] words[0] gaps[1] … words[n-1] gaps[n]."""

  gaps: list[str]
  words: list[str]

  def joined(self) -> str:
    pairs = itertools.zip_longest(self.gaps, self.words, fillvalue="")
    return "".join(itertools.chain.from_iterable(pairs))


def split(text: str) -> Pieces:
  # Matching addresses takes half of the time, but few texts contain any.
  may_have_address = "@" in text or "://" in text or "www." in text
  parts = (ADDRESS_OR_WORD if may_have_address else word_noise.WORD).split(text)
  return Pieces(parts[::2], parts[1::2])


def editable(pieces: Pieces) -> list[int]:
  """Returns the indices of words that aren't addresses, numbers or codes."""
  return [
    i
    for i, word in enumerate(pieces.words)
    if len(word) <= word_noise.MAX_WORD_LENGTH
    and (word.isalpha() or not FIXED.search(word))
  ]


def delete(pieces: Pieces, indices: list[int]) -> None:
  """Deletes words in place, and merges the two gaps around each word."""
  gaps, words = pieces
  for i in sorted(indices, reverse=True):
    is_last = i == len(words) - 1
    del words[i]
    gaps[i : i + 2] = [_merge_gaps(gaps[i], gaps[i + 1])]
    if is_last and not gaps[i].strip() and "\n" not in gaps[i]:
      gaps[i] = ""  # no trailing space


def insert(pieces: Pieces, index: int, word: str) -> None:
  """Inserts a word before the word at `index`, or after the last word."""
  pieces.gaps.insert(min(index + 1, len(pieces.words)), " ")
  pieces.words.insert(index, word)


def match_case(word: str, model: str) -> str:
  """Capitalizes `word` like `model`: bread, Bread or BREAD."""
  if model.isupper() and len(model) > 1:
    return word.upper()
  return word[:1].upper() + word[1:] if model[:1].isupper() else word


def _merge_gaps(before: str, after: str) -> str:
  """Merges the gaps around a deleted word."""
  if not before.strip():  # white space, or the start of the text
    if after.isspace() and "\n" in before:
      return before
    if not before or "\n" in before:
      return before + after.lstrip(" ,;:")
    return after or before
  if before.strip() in (",", ";", ":"):
    if not after or after[:1] in ".!?)]":
      return after
    after = after.lstrip(" ,;:")
  if after[:1] in tuple(".,;:!?)]"):
    before = before.rstrip(" ")
  return before + (after.lstrip(" ") if before[-1:].isspace() else after)

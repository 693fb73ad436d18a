"""A text as words and what stands between them, so that words change in their place.

Punctuation, white space and line breaks are the gaps and stay as they are; addresses,
codes and unspaced runs are words that are never changed.
"""

import re
from typing import NamedTuple

from ssljax.data.batches import word_noise

ADDRESS = r"(?:https?://|www\.)\S+|[\w.+-]{1,64}@[\w-]+\.[\w.-]*\w"
PIECE = re.compile(rf"({ADDRESS}|{word_noise.WORD.pattern[1:-1]})")
FIXED = re.compile(r"[\d_/@]|www\.")


class Pieces(NamedTuple):
  """gaps[0] words[0] gaps[1] … words[n-1] gaps[n]; joined, they are the text."""

  gaps: list[str]
  words: list[str]

  def joined(self) -> str:
    out = [piece for pair in zip(self.gaps, self.words, strict=False) for piece in pair]
    return "".join([*out, self.gaps[-1]])


def split(text: str) -> Pieces:
  # Looking for addresses takes half of the time, and few texts have any.
  some = "@" in text or "://" in text or "www." in text
  parts = (PIECE if some else word_noise.WORD).split(text)
  return Pieces(parts[::2], parts[1::2])


def changeable(pieces: Pieces) -> list[int]:
  """The places of words that are no addresses, numbers or codes."""
  return [
    i
    for i, word in enumerate(pieces.words)
    if len(word) <= word_noise.LONGEST and (word.isalpha() or not FIXED.search(word))
  ]


def delete(pieces: Pieces, places: list[int]) -> None:
  """Takes words out, in place, and leaves one gap where there were two."""
  gaps, found = pieces
  for i in sorted(places, reverse=True):
    last = i == len(found) - 1
    del found[i]
    gaps[i : i + 2] = [_closed(gaps[i], gaps[i + 1])]
    if last and not gaps[i].strip() and "\n" not in gaps[i]:
      gaps[i] = ""  # nothing follows that it could stand before


def insert(pieces: Pieces, place: int, word: str) -> None:
  """Puts a word before the one at `place`, or after the last, in place."""
  gaps, found = pieces
  if place < len(found):
    gaps.insert(place + 1, " ")
  else:
    gaps.insert(place, " ")
  found.insert(place, word)


def like(word: str, model: str) -> str:
  """The word in capitals as the model is: bread, Bread, BREAD."""
  if model.isupper() and len(model) > 1:
    return word.upper()
  return word[:1].upper() + word[1:] if model[:1].isupper() else word


def _closed(before: str, after: str) -> str:
  """What stands between two words when the one between them is gone."""
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

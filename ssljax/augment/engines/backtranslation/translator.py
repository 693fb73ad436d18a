"""What a translator is, and how whole texts go through it and back."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ssljax.augment.engines.backtranslation import sentences
from ssljax.augment.words import ADDRESS, Pieces


class TranslatorDied(Exception):
  """No answer came: the process ended, hung, or gave something else than asked."""


class Translator(NamedTuple):
  """Translates sentences.

  `translate(texts, source, target)` gives as many as it got, in their order; languages
  are ISO 639-1 ("en"). Raises TranslatorDied; asking again may help.
  """

  name: str
  models: Mapping[tuple[str, str], str]  # (source, target): by what it is translated
  translate: Callable[[list[str], str, str], list[str]]


def there_and_back(
  texts: Sequence[str], translator: Translator, language: str, pivot: str
) -> list[str]:
  """Texts in other words: into the pivot language and back, sentence by sentence.

  What stands between sentences stays. Equal sentences are translated once. A sentence
  whose addresses were translated along with it stays as it was.

  Raises:
    TranslatorDied: as `Translator`.
  """
  split = [sentences.split(text) for text in texts]
  there = list(dict.fromkeys(word for pieces in split for word in pieces.words))
  middle = translator.translate(there, language, pivot)
  back = translator.translate(middle, pivot, language)
  found = {
    old: new.strip() if _addresses(old) == _addresses(new) else old
    for old, new in zip(there, back, strict=True)
  }
  return [
    Pieces(pieces.gaps, [found[word] for word in pieces.words]).joined()
    for pieces in split
  ]


def _addresses(sentence: str) -> list[str]:
  return re.findall(ADDRESS, sentence)

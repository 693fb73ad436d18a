"""Defines the interface of a translator, and translates texts into a pivot and back."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ssljax.augment.engines.backtranslation.sentences import split_sentences
from ssljax.augment.word_edits import ADDRESS, Pieces


class TranslatorError(Exception):
  """The translator crashed, hung or returned something unusable."""


class Translator(NamedTuple):
  """Translates sentences.

  `translate(texts, source, target)` returns the translation of each text, in the same
  order. Languages are ISO 639-1 codes ("en"). After a TranslatorError, another attempt
  may succeed.
  """

  name: str
  models: Mapping[tuple[str, str], str]  # (source, target): name of the model
  translate: Callable[[list[str], str, str], list[str]]


def back_translate(
  texts: Sequence[str], translator: Translator, language: str, pivot: str
) -> list[str]:
  """Translates texts into the pivot language and back, sentence by sentence.

  Everything between sentences is kept. Duplicate sentences are translated once. If the
  translation would alter a URL or e-mail address, the sentence stays unchanged.

  Raises:
    TranslatorError: see `Translator`.
  """
  split = list(map(split_sentences, texts))
  unique = list(dict.fromkeys(word for pieces in split for word in pieces.words))
  pivoted = translator.translate(unique, language, pivot)
  returned = translator.translate(pivoted, pivot, language)
  results = {
    old: new.strip() if re.findall(ADDRESS, old) == re.findall(ADDRESS, new) else old
    for old, new in zip(unique, returned, strict=True)
  }
  return [
    Pieces(pieces.gaps, [results[word] for word in pieces.words]).joined()
    for pieces in split
  ]

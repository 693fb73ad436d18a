"""Defines the interface of a translator, and translates texts into a pivot and back."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ssljax.augment.engine import Candidate, Source
from ssljax.augment.engines.backtranslation.sentences import split_sentences
from ssljax.augment.word_edits import ADDRESS, Pieces

PROBE = Source("", "Good morning.")  # any working translator can translate this


class TranslatorError(Exception):
  """The translator crashed, hung or returned something unusable."""


class Translator(NamedTuple):
  """Translates sentences.

  `translate(texts, source, target)` returns the translation of each text, in the same
  order. No text is empty. Languages are ISO 639-1 codes ("en"). After a
  TranslatorError, another attempt may succeed.
  """

  models: Mapping[tuple[str, str], str]  # (source, target): name of the model
  translate: Callable[[list[str], str, str], list[str]]


def back_translate(
  texts: Sequence[str], translator: Translator, language: str, pivot: str
) -> list[str]:
  """Translates texts into the pivot language and back, sentence by sentence.

  Everything between sentences is kept. Duplicate sentences are translated once. If the
  translation would alter a URL or e-mail address, the sentence stays unchanged.
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


def make_candidates(
  sources: Sequence[Source], translator: Translator, language: str, pivot: str
) -> list[Candidate]:
  """Returns a candidate for each source.

  If the translator crashes, tries each half of the sources, until only the text that
  causes the crash has no view.
  """
  if not sources:
    return []
  texts = [source.text for source in sources]
  texts += [source.response for source in sources if source.response is not None]
  try:
    results = back_translate(texts, translator, language, pivot)
  except TranslatorError as error:
    crash = Candidate(problem=str(error), transient=True)
    if len(sources) == 1:
      return [crash]
    (probe,) = make_candidates([PROBE], translator, language, pivot)
    if probe.transient:  # the translator doesn't work at all
      return [crash] * len(sources)
    half = len(sources) // 2
    return [
      candidate
      for part in (sources[:half], sources[half:])
      for candidate in make_candidates(part, translator, language, pivot)
    ]
  new: dict[str | None, str] = dict(zip(texts, results, strict=True))
  views = [Candidate(new[source.text], new.get(source.response)) for source in sources]
  return [
    Candidate(problem="nothing to translate") if view[:2] == source[1:] else view
    for source, view in zip(sources, views, strict=True)
  ]

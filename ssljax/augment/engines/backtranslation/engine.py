"""Translates texts into a pivot language and back (Sennrich et al. 2016).

There are two translators: `apertium` is rule-based and easy to install on Debian;
`marian` is neural. Each pivot language gives one view, of both text and response. The
first pivot of a text is random, so that all pivots are used equally often even if there
are more pivots than views.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from ssljax.augment import seeded
from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.augment.engines.backtranslation import apertium, marian
from ssljax.augment.engines.backtranslation.sentences import split_sentences
from ssljax.augment.engines.backtranslation.translator import (
  Translator,
  TranslatorError,
  back_translate,
)
from ssljax.data.records.files import chunked
from ssljax.errors import UserError
from ssljax.options import Count, Natural

GROUP = 64  # texts in one call of the translator
PROBE = "Good morning."  # any working translator can translate this


def make(
  *,
  translator: Annotated[str, "apertium (rule-based) or marian (neural)"] = "apertium",
  pivots: Annotated[
    Sequence[str], "ISO 639-1 codes of languages; at most one view each"
  ] = ("es",),
  source: Annotated[str, "language of the texts"] = "en",
  models: Annotated[str, "folder of marian's models; '': the Hub"] = "",
  device: Annotated[str, "torch device of marian; '': a GPU if there is one"] = "",
  batch: Annotated[Count, "sentences that marian translates together"] = 32,
  seed: Annotated[Natural, "seed of all random draws"] = 0,
) -> Engine:
  """Creates the engine.

  Raises:
    UserError: the translator is unknown or not installed, or a pivot is invalid.
  """
  if not pivots or len(set(pivots)) < len(pivots) or source in pivots:
    raise UserError(
      f"config.pivots={tuple(pivots)}: give one or more different languages other than"
      f" {source}"
    )
  if translator == "apertium":
    chosen = apertium.make_translator(source, pivots)
  elif translator == "marian":
    chosen = marian.make_translator(source, pivots, models, device, batch)
  else:
    raise UserError(f"config.translator={translator}: choose apertium or marian")
  split_sentences(PROBE)  # raises UserError now if nltk is missing

  def pivot_of(source: Source, number: int) -> str:
    return pivots[(seeded.number(seed, source.text) + number) % len(pivots)]

  def make_views(sources: Sequence[Source], number: int):
    if number >= len(pivots):
      yield from ((i, []) for i in range(len(sources)))
      return
    for group in chunked(range(len(sources)), GROUP):
      for pivot in pivots:
        rows = [i for i in group if pivot_of(sources[i], number) == pivot]
        candidates = _translate([sources[i] for i in rows], chosen, source, pivot)
        for i, candidate in zip(rows, candidates, strict=True):
          yield i, [candidate]

  def asks(text: Source, number: int) -> dict[str, Any]:
    if number >= len(pivots):  # no view: depends on the number of pivots only
      return {"pivots": len(pivots), "number": number}
    pivot = pivot_of(text, number)
    models = [chosen.models[source, pivot], chosen.models[pivot, source]]
    return {"translator": chosen.name, "models": models}

  settings = {
    "translator": chosen.name,
    "models": sorted(chosen.models.values()),
    "source": source,
    "pivots": list(pivots),
    "seed": seed,
  }
  return Engine("backtranslation", settings, make_views, asks=asks)


def _translate(
  sources: Sequence[Source], translator: Translator, language: str, pivot: str
) -> list[Candidate]:
  """Returns a candidate for each source.

  If the translator crashes, bisects the sources to find the text that crashes it.
  """
  texts = [s.text for s in sources]
  texts += [s.response for s in sources if s.response is not None]
  try:
    results = back_translate(texts, translator, language, pivot) if texts else []
  except TranslatorError as error:
    failure = Candidate(problem=str(error), transient=True)
    if len(sources) == 1 or not _works(translator, language, pivot):
      return [failure] * len(sources)
    half = len(sources) // 2
    return [
      candidate
      for part in (sources[:half], sources[half:])
      for candidate in _translate(part, translator, language, pivot)
    ]
  responses = iter(results[len(sources) :])
  candidates = []
  for source, text in zip(sources, results, strict=False):
    view = Candidate(text, None if source.response is None else next(responses))
    unchanged = view[:2] == (source.text, source.response)
    candidates.append(Candidate(problem="nothing to translate") if unchanged else view)
  return candidates


def _works(translator: Translator, language: str, pivot: str) -> bool:
  try:
    back_translate([PROBE], translator, language, pivot)
  except TranslatorError:
    return False
  return True

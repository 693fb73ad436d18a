"""Back-translation: into another language and back (Sennrich et al. 2016).

One interface, `translate(texts, source, target)`, and two translators: `apertium`, by
rules and at hand on any Debian, and `marian`, neural. Each pivot language gives a view
of its own, of the text and of the response. Which pivots a text gets first is drawn, so
that with fewer views than pivots all pivots are used alike.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from ssljax.augment import seeded
from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.augment.engines.backtranslation import apertium, marian, sentences
from ssljax.augment.engines.backtranslation.translator import (
  Translator,
  TranslatorDied,
  there_and_back,
)
from ssljax.errors import UserError

GROUP = 64  # texts that go through the translator together
PROBE = "Good morning."  # which every translator that lives can translate


def make(
  *,
  translator: str = "apertium",
  pivots: Sequence[str] = ("es",),
  source: str = "en",
  models: str = "",
  device: str = "",
  batch: int = 32,
  seed: int = 0,
) -> Engine:
  """The engine.

  Args:
    translator: "apertium" or "marian".
    pivots: languages, ISO 639-1; each gives one view at most.
    source: the language of the texts.
    models, device, batch: of marian; see there.

  Raises:
    UserError: an unknown translator, no pivot, or what the translator needs is missing.
  """
  if not pivots or len(set(pivots)) < len(pivots) or source in pivots:
    raise UserError(
      f"config.pivots={tuple(pivots)}: give different languages other than {source}"
    )
  if batch < 1:
    raise UserError(f"config.batch={batch}: must be at least 1")
  if translator == "apertium":
    chosen = apertium.make(source, pivots)
  elif translator == "marian":
    chosen = marian.make(source, pivots, models, device, batch)
  else:
    raise UserError(f"config.translator={translator}: choose apertium or marian")
  sentences.split(PROBE)  # what it needs is missing now or never

  def pivot_of(source: Source, number: int) -> str:
    return pivots[(seeded.number(seed, source.text) + number) % len(pivots)]

  def make_views(
    sources: Sequence[Source], number: int
  ) -> Iterator[tuple[int, Sequence[Candidate]]]:
    if number >= len(pivots):
      yield from ((i, []) for i in range(len(sources)))
      return
    for first in range(0, len(sources), GROUP):
      group = sources[first : first + GROUP]
      through = [pivot_of(each, number) for each in group]
      for pivot in pivots:
        rows = [k for k, own in enumerate(through) if own == pivot]
        some = [group[k] for k in rows]
        candidates = _candidates(some, chosen, source, pivot)
        for k, candidate in zip(rows, candidates, strict=True):
          yield first + k, [candidate]

  def asks(text: Source, number: int) -> dict[str, Any]:
    if number >= len(pivots):  # there is no more, which hangs on the pivots
      return {"pivots": len(pivots), "number": number}
    pivot = pivot_of(text, number)
    way = [(source, pivot), (pivot, source)]
    return {"translator": chosen.name, "models": [chosen.models[pair] for pair in way]}

  settings = {
    "translator": chosen.name,
    "models": sorted(chosen.models.values()),
    "source": source,
    "pivots": list(pivots),
    "seed": seed,
  }
  return Engine("backtranslation", settings, make_views, asks=asks)


def _candidates(
  sources: Sequence[Source], translator: Translator, language: str, pivot: str
) -> list[Candidate]:
  """One of each source. A text that kills the translator takes no other with it."""
  texts = [s.text for s in sources]
  texts += [s.response for s in sources if s.response is not None]
  try:
    back = there_and_back(texts, translator, language, pivot) if texts else []
  except TranslatorDied as died:
    gone = Candidate(problem=str(died), passing=True)
    if len(sources) == 1 or not _lives(translator, language, pivot):
      return [gone] * len(sources)
    half = len(sources) // 2
    return [
      candidate
      for part in (sources[:half], sources[half:])
      for candidate in _candidates(part, translator, language, pivot)
    ]
  responses = iter(back[len(sources) :])
  return [
    _candidate(s, text, None if s.response is None else next(responses))
    for s, text in zip(sources, back, strict=False)
  ]


def _candidate(source: Source, text: str, response: str | None) -> Candidate:
  if (text, response) == (source.text, source.response):
    return Candidate(problem="nothing to translate")
  return Candidate(text, response)


def _lives(translator: Translator, language: str, pivot: str) -> bool:
  try:
    there_and_back([PROBE], translator, language, pivot)
  except TranslatorDied:
    return False
  return True

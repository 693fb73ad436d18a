"""Translates texts into a pivot language and back (Sennrich et al. 2016).

There are two translators: `apertium` is rule-based and easy to install on Debian;
`marian` is neural. Each pivot language gives one view, in which the text and the
response are back-translated. The first pivot of a text is random, so that all pivots
are used equally often even if there are more pivots than views.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from ssljax.augment import seeded
from ssljax.augment.engine import Engine, Source
from ssljax.augment.engines.backtranslation import apertium, marian
from ssljax.augment.engines.backtranslation.sentences import split_sentences
from ssljax.augment.engines.backtranslation.translator import make_candidates
from ssljax.data.records.files import chunked
from ssljax.errors import UserError
from ssljax.options import Count, Natural

GROUP = 64  # texts that are translated in one call


def make(
  *,
  translator: Annotated[
    Literal["apertium", "marian"], "rule-based or neural"
  ] = "apertium",
  pivots: Annotated[
    Sequence[str], "ISO 639-1 codes of the pivot languages; each gives at most one view"
  ] = ("es",),
  source: Annotated[str, "language of the texts"] = "en",
  models: Annotated[str, "folder of marian's models; '': use the Hub"] = "",
  device: Annotated[str, "torch device for marian; '': a GPU if there is one"] = "",
  batch: Annotated[Count, "sentences that marian translates together"] = 32,
  seed: Annotated[Natural, "seed of all random draws"] = 0,
) -> Engine:
  """Creates the engine.

  Raises:
    UserError: the translator is not installed, or a pivot is invalid.
  """
  if not pivots or len(set(pivots)) < len(pivots) or source in pivots:
    raise UserError(
      f"config.pivots={tuple(pivots)}: give at least one language other than"
      f" {source}, and each only once"
    )
  if translator == "apertium":
    chosen = apertium.make_translator(source, pivots)
  else:
    chosen = marian.make_translator(source, pivots, models, device, batch)
  split_sentences("")  # raises UserError now if nltk is missing

  def pivot_of(source: Source, number: int) -> str:
    return pivots[(seeded.number(seed, source.text) + number) % len(pivots)]

  def make_views(sources: Sequence[Source], number: int):
    if number >= len(pivots):
      yield from ((i, []) for i in range(len(sources)))
      return
    for group in chunked(range(len(sources)), GROUP):
      for pivot in pivots:
        rows = [i for i in group if pivot_of(sources[i], number) == pivot]
        texts = [sources[i] for i in rows]
        candidates = make_candidates(texts, chosen, source, pivot)
        for i, candidate in zip(rows, candidates, strict=True):
          yield i, [candidate]

  def asks(text: Source, number: int) -> dict[str, Any]:
    if number >= len(pivots):  # no view; this depends only on len(pivots)
      return {"pivots": len(pivots), "number": number}
    pivot = pivot_of(text, number)
    models = [chosen.models[source, pivot], chosen.models[pivot, source]]
    return {"translator": translator, "models": models}

  models_used = sorted(chosen.models.values())
  settings: dict[str, Any] = {"translator": translator, "models": models_used}
  settings |= {"source": source, "pivots": list(pivots), "seed": seed}
  return Engine("backtranslation", settings, make_views, asks=asks)

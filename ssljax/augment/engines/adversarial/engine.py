"""Obfuscates prompts as attackers do to evade filters.

Only the prompt is obfuscated, since attackers don't write the response.
"""

from collections.abc import Sequence
from typing import Annotated

from ssljax.augment import seeded
from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.augment.engines.adversarial.obfuscations import OBFUSCATIONS
from ssljax.errors import UserError
from ssljax.options import Natural


def make(
  *,
  forms: Annotated[
    Sequence[str], "obfuscations, which the views of a text use in turn"
  ] = tuple(OBFUSCATIONS),
  seed: Annotated[Natural, "seed of all random draws"] = 0,
) -> Engine:
  """Creates the engine. The first obfuscation of a text is random.

  Raises:
    UserError: an obfuscation is unknown, or `forms` is empty.
  """
  for form in forms or ("none",):
    if form not in OBFUSCATIONS:
      raise UserError(f"config.forms: {form}; choose from {', '.join(OBFUSCATIONS)}")

  def candidates(source: Source, number: int) -> list[Candidate]:
    first = seeded.number(seed, source.text) + number
    rng = seeded.generator(seed, source.text, number)
    for turn in range(len(forms)):
      text = OBFUSCATIONS[forms[(first + turn) % len(forms)]](source.text, rng)
      if text != source.text:  # leetspeak can't change a text of digits, for example
        return [Candidate(text, source.response)]
    return [] if number else [Candidate(problem="nothing to change")]

  def make_views(sources: Sequence[Source], number: int):
    return ((i, candidates(source, number)) for i, source in enumerate(sources))

  settings = {"forms": list(forms), "seed": seed}
  return Engine("adversarial", settings, make_views, stored=False)

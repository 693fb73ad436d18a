"""Obfuscates prompts the way attackers do to evade a filter.

obfuscations.py has the techniques. Only the prompt is obfuscated, since attackers don't
write the response.
"""

from collections.abc import Iterator, Sequence

from ssljax.augment import seeded
from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.augment.engines.adversarial import obfuscations
from ssljax.errors import UserError

OBFUSCATIONS = {
  "leet": obfuscations.leet,
  "homoglyphs": obfuscations.homoglyphs,
  "zero_width": obfuscations.zero_width,
  "spacing": obfuscations.spacing,
  "case": obfuscations.case,
  "base64": obfuscations.base64,
  "rot13": obfuscations.rot13,
  "template": obfuscations.template,
}


def make(*, forms: Sequence[str] = tuple(OBFUSCATIONS), seed: int = 0) -> Engine:
  """Creates the engine.

  Args:
    forms: obfuscations to use. The views of a text cycle through them, starting with a
      random one.

  Raises:
    UserError: an obfuscation is unknown, or there is none.
  """
  unknown = [name for name in forms if name not in OBFUSCATIONS]
  if unknown or not forms:
    raise UserError(
      f"config.forms: {unknown[0] if unknown else 'none'}; choose from"
      f" {', '.join(OBFUSCATIONS)}"
    )

  def candidates(source: Source, number: int) -> list[Candidate]:
    first = seeded.number(seed, source.text)
    rng = seeded.generator(seed, source.text, number)
    for turn in range(len(forms)):
      form = forms[(first + number + turn) % len(forms)]
      text = OBFUSCATIONS[form](source.text, rng)
      if text != source.text:  # leetspeak can't change a text of digits, for example
        return [Candidate(text, source.response)]
    return [] if number else [Candidate(problem="nothing to change")]

  def make_views(
    sources: Sequence[Source], number: int
  ) -> Iterator[tuple[int, Sequence[Candidate]]]:
    for i, source in enumerate(sources):
      yield i, candidates(source, number)

  settings = {"forms": list(forms), "seed": seed}
  return Engine("adversarial", settings, make_views, stored=False)

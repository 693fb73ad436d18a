"""The same text in a form that real attackers use to pass a filter.

The forms are those of obfuscations.py. Only the prompt takes the form: it is the side
that an attacker writes.
"""

from collections.abc import Iterator, Sequence

from ssljax.augment import seeded
from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.augment.engines.adversarial import obfuscations
from ssljax.errors import UserError

FORMS = {
  "leet": obfuscations.leet,
  "homoglyphs": obfuscations.homoglyphs,
  "zero_width": obfuscations.zero_width,
  "spacing": obfuscations.spacing,
  "case": obfuscations.case,
  "base64": obfuscations.base64,
  "rot13": obfuscations.rot13,
  "template": obfuscations.template,
}


def make(*, forms: Sequence[str] = tuple(FORMS), seed: int = 0) -> Engine:
  """The engine.

  Args:
    forms: to choose from; a text's views take them in turn, from a drawn one on.

  Raises:
    UserError: a form that is not there, or none.
  """
  unknown = [name for name in forms if name not in FORMS]
  if unknown or not forms:
    raise UserError(
      f"config.forms: {unknown[0] if unknown else 'none'}; choose from"
      f" {', '.join(FORMS)}"
    )

  def candidates(source: Source, number: int) -> list[Candidate]:
    first = seeded.number(seed, source.text)
    rng = seeded.generator(seed, source.text, number)
    for turn in range(len(forms)):
      text = FORMS[forms[(first + number + turn) % len(forms)]](source.text, rng)
      if text != source.text:  # leetspeak, say, leaves numbers as they are
        return [Candidate(text, source.response)]
    return [] if number else [Candidate(problem="nothing to change")]

  def make_views(
    sources: Sequence[Source], number: int
  ) -> Iterator[tuple[int, Sequence[Candidate]]]:
    for i, source in enumerate(sources):
      yield i, candidates(source, number)

  settings = {"forms": list(forms), "seed": seed}
  return Engine("adversarial", settings, make_views, stored=False)

"""A text as sentences and what stands between them, for translators.

Translators know single sentences: given a whole text they lose line breaks, and neural
ones cut it off. The gaps are line breaks, list marks, code in fences and whatever has
no letter.
"""

import functools
import re

from ssljax.augment.words import Pieces
from ssljax.errors import UserError

LONGEST = 400  # characters of a sentence; a longer one is cut between words
MARK = re.compile(r"\s*(?:(?:[-*+•>#]+|\(?(?:\d{1,3}|\w)[.)])\s+)*")
FENCE = re.compile(r"\s*(?:```|~~~)")
LETTER = re.compile(r"[^\W\d_]")
ABBREVIATIONS = (
  "a.m al approx cf co corp dept dr e.g ed est etc fig gen gov i.e inc jr ltd max min"
  " mr mrs ms no nos p p.m ph.d pp prof rev sen sr st u.k u.n u.s vol vs"
)


def split(text: str, longest: int = LONGEST) -> Pieces:
  """The sentences (as `words`) and the gaps; joined, they are the text."""
  tokenizer = _tokenizer()
  gaps, found, end = [], [], 0
  start, fenced = 0, False  # code is never translated
  for line in text.splitlines(keepends=True):
    fence = FENCE.match(line) is not None
    fenced ^= fence
    begin = start + MARK.match(line).end()
    body = "" if fence or fenced else text[begin : start + len(line)]
    for first, last in tokenizer.span_tokenize(body) if body.strip() else ():
      for a, b in _cut(body, first, last, longest):
        if LETTER.search(body, a, b):
          gaps.append(text[end : begin + a])
          found.append(body[a:b])
          end = begin + b
    start += len(line)
  return Pieces([*gaps, text[end:]], found)


def _cut(body: str, first: int, last: int, longest: int):
  """(start, end) of the parts of a sentence, cut where a space stands."""
  while last - first > longest:
    space = body.rfind(" ", first + 1, first + longest + 1)
    if space < 0:  # no space for so long: code, which nobody translates
      space = body.find(" ", first, last)
      if space < 0:
        return
    else:
      yield first, space
    first = space + 1
  # The tokenizer leaves white space at the end of a last sentence.
  kept = len(body[first:last].rstrip())
  lead = len(body[first:last]) - len(body[first:last].lstrip())
  if kept > lead:
    yield first + lead, first + kept


@functools.cache
def _tokenizer():
  """Punkt (Kiss & Strunk 2006) with a list of abbreviations in place of training."""
  try:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer
  except ImportError:
    raise UserError(
      "back-translation splits texts with nltk: `pip install -e '.[augment]'`"
    ) from None
  known = PunktParameters()
  known.abbrev_types.update(ABBREVIATIONS.split())
  return PunktSentenceTokenizer(known)

"""Splits a text into sentences and the gaps between them, for translators.

Translators expect single sentences: they lose the line breaks of a longer text, and
neural translators truncate it. Gaps contain line breaks, list markers, fenced code
and anything without letters.
"""

import functools
import re
from collections.abc import Iterator

from ssljax.augment.word_edits import Pieces
from ssljax.errors import UserError

MAX_LENGTH = 400  # characters; longer sentences are cut between words
LIST_MARKER = re.compile(r"\s*(?:(?:[-*+•>#]+|\(?(?:\d{1,3}|\w)[.)])\s+)*")
FENCE = re.compile(r"\s*(?:```|~~~)")
LETTER = re.compile(r"[^\W\d_]")
STRIPPED = re.compile(r"\S(?:.*\S)?", re.DOTALL)  # a text without outer whitespace
ABBREVIATIONS = (
  "a.m al approx cf co corp dept dr e.g ed est etc fig gen gov i.e inc jr ltd max min"
  " mr mrs ms no nos p p.m ph.d pp prof rev sen sr st u.k u.n u.s vol vs"
)


def split_sentences(text: str) -> Pieces:
  """Returns the sentences (as `words`) and the gaps; joined, they equal the text."""
  tokenizer = _tokenizer()
  gaps, sentences, end = [], [], 0
  line_start, fenced = 0, False  # fenced code belongs to the gaps
  for line in text.splitlines(keepends=True):
    fence = FENCE.match(line) is not None
    fenced ^= fence
    start = line_start + LIST_MARKER.match(line).end()
    body = "" if fence or fenced else text[start : line_start + len(line)]
    for first, last in tokenizer.span_tokenize(body):
      for a, b in _cut(body, first, last):
        if LETTER.search(body, a, b):
          gaps.append(text[end : start + a])
          sentences.append(body[a:b])
          end = start + b
    line_start += len(line)
  return Pieces([*gaps, text[end:]], sentences)


def _cut(body: str, first: int, last: int) -> Iterator[tuple[int, int]]:
  """Cuts a long sentence at spaces; yields (start, end) of each part."""
  while last - first > MAX_LENGTH:
    space = body.rfind(" ", first + 1, first + MAX_LENGTH + 1)
    if space >= 0:
      yield first, space
    else:  # a word this long is code, so it isn't translated
      space = body.find(" ", first, last)
      if space < 0:
        return
    first = space + 1
  # The tokenizer leaves whitespace at the end of the last sentence.
  if sentence := STRIPPED.search(body, first, last):
    yield sentence.span()


@functools.cache
def _tokenizer():
  """Creates Punkt (Kiss & Strunk 2006) with known abbreviations, without training."""
  try:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer
  except ImportError:
    raise UserError(
      "back-translation needs nltk to split sentences: `pip install -e '.[augment]'`"
    ) from None
  parameters = PunktParameters()
  parameters.abbrev_types.update(ABBREVIATIONS.split())
  return PunktSentenceTokenizer(parameters)

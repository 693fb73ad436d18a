"""Marks the words in which a view differs from its text."""

import re
from collections.abc import Iterable, Sequence

from rapidfuzz.distance import Indel

from ssljax.data.batches.word_noise import WORD

_GAP = re.compile(r"\s+|\S")  # white space is one token, each other character is one
# Consecutive parts of a text: (whether the part differs, the part).
Parts = list[tuple[bool, str]]


def diff(text: str, view: str) -> tuple[Parts, Parts]:
  """Splits a text and its view into parts that they share and parts that differ.

    >>> diff("a red car", "a blue car")[1]
    [(False, 'a '), (True, 'blue'), (False, ' car')]

  The parts of each side, joined, are that side. In scripts without spaces between
  words, such as Chinese and Thai, each character counts as a word.
  """
  old, new = _tokens(text), _tokens(view)
  blocks = Indel.opcodes(old, new)
  left, right = [], []
  for block in blocks:
    differs = block.tag != "equal"
    left.append((differs, "".join(old[block.src_start : block.src_end])))
    right.append((differs, "".join(new[block.dest_start : block.dest_end])))
  return _joined(left), _joined(right)


def _tokens(text: str) -> list[str]:
  """Splits a text into words, white space and single other characters."""
  tokens = []
  for i, piece in enumerate(WORD.split(text)):  # gaps and words alternate
    tokens += [piece] if i % 2 else _GAP.findall(piece)
  return tokens


def _joined(parts: Sequence[tuple[bool, str]]) -> Parts:
  """Joins neighbours, and also joins changed words across unchanged white space."""
  parts = _merged(part for part in parts if part[1])
  return _merged(
    (differs or (0 < i < len(parts) - 1 and part.isspace()), part)
    for i, (differs, part) in enumerate(parts)
  )


def _merged(parts: Iterable[tuple[bool, str]]) -> Parts:
  merged: Parts = []
  for differs, part in parts:
    if merged and merged[-1][0] == differs:
      part = merged.pop()[1] + part
    merged.append((differs, part))
  return merged

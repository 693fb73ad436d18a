"""Obfuscates texts to evade safety filters, for example with leetspeak or Base64.

Each function takes (text, rng). Every obfuscation is reversible, because the attacked
model must still understand the text. The share of changed characters is random.
"""

import base64 as encoding
import codecs
import functools
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssljax.data.batches.word_noise import MARK

LEET = str.maketrans("aeiostbgAEIOSTBG", "4310578943105789")
# Look-alike Cyrillic, Greek and Armenian letters (Unicode TR 39).
HOMOGLYPHS = {
  "a": "а", "c": "сϲ", "d": "ԁ", "e": "е", "g": "ց", "h": "һ", "i": "і", "j": "јϳ",
  "n": "ո", "o": "оο", "p": "р", "q": "ԛ", "s": "ѕ", "u": "ս", "v": "ν", "w": "ԝ",
  "x": "х", "y": "у", "A": "АΑ", "B": "ВΒ", "C": "СϹ", "E": "ЕΕ", "G": "Ԍ", "H": "НΗ",
  "I": "ІΙ", "J": "Ј", "K": "КΚ", "M": "МΜ", "N": "Ν", "O": "ОΟ", "P": "РΡ", "Q": "Ԛ",
  "S": "Ѕ", "T": "ТΤ", "W": "Ԝ", "X": "ХΧ", "Y": "ҮΥ", "Z": "Ζ",
}  # fmt: skip
LETTER = re.compile(rf"[^\W_]{MARK}*")  # with its accents or vowel signs
LONG_WORD = re.compile(rf"((?:{LETTER.pattern}){{2,}})")
ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"


def leet(text: str, rng: np.random.Generator) -> str:
  """Replaces some or all letters with similar digits: b4k3."""
  chosen = _choose([ord(char) in LEET for char in text], rng)
  return "".join(_replace(text, text.translate(LEET), chosen))


def homoglyphs(text: str, rng: np.random.Generator) -> str:
  """Replaces some or all letters with look-alikes from other scripts."""
  chosen = _choose([char in HOMOGLYPHS for char in text], rng)
  letters = _replace(text, [HOMOGLYPHS.get(char, char) for char in text], chosen)
  return "".join(choices[int(rng.random() * len(choices))] for choices in letters)


def zero_width(text: str, rng: np.random.Generator) -> str:
  """Inserts invisible characters between some or all letters of a word."""
  inside = [a.isalnum() and b.isalnum() for a, b in itertools.pairwise(text)]
  chosen = _choose([False, *inside][: len(text)], rng)
  new = [ZERO_WIDTH[int(rng.random() * len(ZERO_WIDTH))] + char for char in text]
  return "".join(_replace(text, new, chosen))


def spacing(text: str, rng: np.random.Generator) -> str:
  """Separates the letters of some or all words: "b a k e   i t" or "b.a.k.e i.t"."""
  parts = LONG_WORD.split(text)
  words = parts[1::2]
  separator = " .-_"[int(rng.random() * 4)]
  if separator == " ":  # wider gaps keep the word boundaries visible
    parts[::2] = [gap.replace(" ", "   ") for gap in parts[::2]]
  chosen = _choose([True] * len(words), rng)
  spaced = [separator.join(LETTER.findall(word)) for word in words]
  parts[1::2] = _replace(words, spaced, chosen)
  return "".join(parts)


def case(text: str, rng: np.random.Generator) -> str:
  """Changes the case: at random (bAKe), alternating (bAkE) or all capitals (BAKE)."""
  kind = int(rng.random() * 3)
  if kind == 0:
    upper = _choose([char.isalpha() for char in text], rng)
  else:
    upper = [kind == 1 or i % 2 == 1 for i in range(len(text))]
  # A letter such as ß is kept: its capital is SS, which can't be reversed.
  return "".join(
    new if len(new := char.upper() if hit else char.lower()) == 1 else char
    for char, hit in zip(text, upper, strict=True)
  )


def base64(text: str, rng: np.random.Generator) -> str:
  """Encodes the text in Base64 and adds a request to decode it."""
  code = encoding.b64encode(text.encode("utf-8", "replace")).decode()
  return _fill_template("base64", code, rng)


def rot13(text: str, rng: np.random.Generator) -> str:
  """Rotates letters by 13 and adds a request to decode them."""
  return _fill_template("rot13", codecs.encode(text, "rot13"), rng)


def template(text: str, rng: np.random.Generator) -> str:
  """Puts the unchanged text into a jailbreak template."""
  return _fill_template("jailbreak", text, rng)


OBFUSCATIONS = {
  function.__name__: function
  for function in (leet, homoglyphs, zero_width, spacing, case, base64, rot13, template)
}


@functools.cache
def load_templates(name: str) -> tuple[str, ...]:
  """Reads templates/<name>.txt, where lines of three dashes separate the templates."""
  path = Path(__file__).with_name("templates") / f"{name}.txt"
  parts = path.read_text(encoding="utf-8").split("\n---\n")
  return tuple(part.strip("\n") for part in parts)


def _fill_template(name: str, text: str, rng: np.random.Generator) -> str:
  templates = load_templates(name)
  before, after = templates[int(rng.random() * len(templates))].split("{text}")
  return before + text + after


def _choose(eligible: list[bool], rng: np.random.Generator) -> list[bool]:
  """Chooses some eligible items at random: a share between a third and all of them."""
  share = 1 / 3 + 2 / 3 * rng.random()
  draws = np.where(eligible, rng.random(len(eligible)), 2.0)  # 2: never chosen
  # The threshold is at least the smallest draw, so that at least one is chosen.
  return (draws <= max(share, draws.min(initial=1.0))).tolist()


def _replace(old: Sequence[str], new: Sequence[str], chosen: list[bool]) -> list[str]:
  return [b if hit else a for a, b, hit in zip(old, new, chosen, strict=True)]

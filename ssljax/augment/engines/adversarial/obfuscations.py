"""The forms in which attackers hide a text from a filter; each a function (text, rng).

All of them can be undone, since a model that is attacked so has to read the text: a
test decodes each. How thickly a form is laid on is drawn too.
"""

import base64 as encoding
import codecs
import functools
import itertools
import re
from pathlib import Path

import numpy as np

TEMPLATES = Path(__file__).with_name("templates")

LEET = str.maketrans("aeiostbgAEIOSTBG", "4310578943105789")
# Letters of other scripts that look alike (Unicode TR 39): Cyrillic, Greek, Armenian.
HOMOGLYPHS = {
  "a": "а", "c": "сϲ", "d": "ԁ", "e": "е", "g": "ց", "h": "һ", "i": "і", "j": "јϳ",
  "n": "ո", "o": "оο", "p": "р", "q": "ԛ", "s": "ѕ", "u": "ս", "v": "ν", "w": "ԝ",
  "x": "х", "y": "у", "A": "АΑ", "B": "ВΒ", "C": "СϹ", "E": "ЕΕ", "G": "Ԍ", "H": "НΗ",
  "I": "ІΙ", "J": "Ј", "K": "КΚ", "M": "МΜ", "N": "Ν", "O": "ОΟ", "P": "РΡ", "Q": "Ԛ",
  "S": "Ѕ", "T": "ТΤ", "W": "Ԝ", "X": "ХΧ", "Y": "ҮΥ", "Z": "Ζ",
}  # fmt: skip
LONG_WORD = re.compile(r"([^\W_]{2,})")  # of two characters at least
ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"


def leet(text: str, rng: np.random.Generator) -> str:
  """Digits for some or all of the letters that resemble one: b4k3."""
  hits = _some([ord(char) in LEET for char in text], rng)
  return "".join(
    char.translate(LEET) if hit else char for char, hit in zip(text, hits, strict=True)
  )


def homoglyphs(text: str, rng: np.random.Generator) -> str:
  """Letters of other scripts for some or all of those that look the same."""
  hits = _some([char in HOMOGLYPHS for char in text], rng)
  pick = rng.random(len(text)).tolist()
  out = []
  for char, hit, u in zip(text, hits, pick, strict=True):
    alike = HOMOGLYPHS[char] if hit else char
    out.append(alike[int(u * len(alike))])
  return "".join(out)


def zero_width(text: str, rng: np.random.Generator) -> str:
  """Characters that nobody sees, between some or all of the letters of a word."""
  inside = [a.isalnum() and b.isalnum() for a, b in itertools.pairwise(text)]
  hits = _some([False, *inside][: len(text)], rng)
  pick = (rng.random(len(text)) * len(ZERO_WIDTH)).astype(int).tolist()
  return "".join(
    ZERO_WIDTH[k] + char if hit else char
    for char, hit, k in zip(text, hits, pick, strict=True)
  )


def spacing(text: str, rng: np.random.Generator) -> str:
  """Letters apart, in some words or all: "b a k e   i t" or "b.a.k.e i.t"."""
  parts = LONG_WORD.split(text)
  gaps, words = parts[::2], parts[1::2]
  mark = " .-_"[int(rng.random() * 4)]
  if mark == " ":  # else nobody finds the words again
    gaps = [gap.replace(" ", "   ") for gap in gaps]
  hits = _some([True] * len(words), rng)
  apart = [mark.join(w) if hit else w for w, hit in zip(words, hits, strict=True)]
  return "".join(x for pair in zip(gaps, [*apart, ""], strict=True) for x in pair)


def case(text: str, rng: np.random.Generator) -> str:
  """Capitals by chance (bAKe), in turn (bAkE) or throughout (BAKE)."""
  kind = int(rng.random() * 3)
  if kind == 0:
    capital = _some([char.isalpha() for char in text], rng)
  else:
    capital = [kind == 1 or i % 2 == 1 for i in range(len(text))]
  # A letter whose other case is not one letter (ß: SS) could not be got back.
  return "".join(
    new if len(new := char.upper() if hit else char.lower()) == 1 else char
    for char, hit in zip(text, capital, strict=True)
  )


def base64(text: str, rng: np.random.Generator) -> str:
  """The text in Base64, in a line that asks to decode it."""
  code = encoding.b64encode(text.encode("utf-8", "replace")).decode()
  return _framed("base64", code, rng)


def rot13(text: str, rng: np.random.Generator) -> str:
  """Each letter 13 further on, in a line that asks to decode it."""
  return _framed("rot13", codecs.encode(text, "rot13"), rng)


def template(text: str, rng: np.random.Generator) -> str:
  """The text as it is, inside a frame such as jailbreaks put around it."""
  return _framed("jailbreak", text, rng)


@functools.cache
def frames(name: str) -> tuple[str, ...]:
  """The frames of templates/<name>.txt, which stand between lines of three dashes."""
  lines = (TEMPLATES / f"{name}.txt").read_text(encoding="utf-8")
  return tuple(frame.strip("\n") for frame in lines.split("\n---\n"))


def _framed(name: str, text: str, rng: np.random.Generator) -> str:
  found = frames(name)
  before, after = found[int(rng.random() * len(found))].split("{text}")
  return before + text + after


def _some(can: list[bool], rng: np.random.Generator) -> list[bool]:
  """Which items change: a share of those that can, drawn between a third and all."""
  share = 1 / 3 + 2 / 3 * rng.random()
  drawn = np.where(can, rng.random(len(can)), 2.0)  # 2: never
  return (drawn <= min(max(share, drawn.min(initial=1.0)), 1.0)).tolist()

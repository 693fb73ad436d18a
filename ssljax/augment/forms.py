"""The forms in which attackers hide a text from a filter; each a function (text, rng).

All of them can be undone, since a model that is attacked so has to read the text: a
test decodes each. How thickly a form is laid on is drawn too.
"""

import base64 as encoding
import codecs
import functools
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
ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"


def leet(text: str, rng: np.random.Generator) -> str:
  """Digits for some or all of the letters that resemble one: b4k3."""
  return "".join(
    char.translate(LEET) if hit else char
    for char, hit in zip(text, _some(text, rng), strict=True)
  )


def homoglyphs(text: str, rng: np.random.Generator) -> str:
  """Letters of other scripts for some or all of those that look the same."""
  pick = rng.random(len(text)).tolist()
  out = []
  for char, hit, u in zip(text, _some(text, rng), pick, strict=True):
    alike = HOMOGLYPHS.get(char, char) if hit else char
    out.append(alike[int(u * len(alike))])
  return "".join(out)


def zero_width(text: str, rng: np.random.Generator) -> str:
  """Characters that nobody sees, inside some or all of the words."""
  pick = (rng.random(len(text)) * len(ZERO_WIDTH)).astype(int).tolist()
  out = []
  before = ""
  for char, hit, k in zip(text, _some(text, rng), pick, strict=True):
    if hit and char.isalnum() and before.isalnum():
      out.append(ZERO_WIDTH[k])
    out.append(char)
    before = char
  return "".join(out)


def spacing(text: str, rng: np.random.Generator) -> str:
  """Letters apart, in some words or all: "b a k e   i t" or "b.a.k.e i.t"."""
  mark = " .-_"[int(rng.random() * 4)]
  wide = "   " if mark == " " else " "  # else nobody finds the words again
  lines = []
  for line in text.split("\n"):
    words = line.split(" ")
    apart = [
      mark.join(word) if hit and word.isalpha() else word
      for word, hit in zip(words, _some(words, rng), strict=True)
    ]
    lines.append(wide.join(apart))
  return "\n".join(lines)


def case(text: str, rng: np.random.Generator) -> str:
  """Capitals by chance (bAKe), in turn (bAkE) or throughout (BAKE)."""
  kind = int(rng.random() * 3)
  if kind == 0:
    capital = _some(text, rng)
  else:
    capital = [kind == 1 or i % 2 == 1 for i in range(len(text))]
  return "".join(
    char.upper() if hit and len(char.upper()) == 1 else char.lower() or char
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


def _some(items, rng: np.random.Generator) -> list[bool]:
  """Which items change: a share drawn between a third and all, at least one."""
  share = 1 / 3 + 2 / 3 * rng.random()
  drawn = rng.random(len(items))
  return (drawn <= max(share, drawn.min(initial=1.0))).tolist()

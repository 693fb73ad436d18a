"""Apertium as a translator: by rules, a local process a batch, no network, no weights.

Debian's packages `apertium` and `apertium-eng-spa`, and other pairs. A process starts
in a quarter of a second, so none is kept between batches.
"""

import os
import re
import shutil
import signal
import subprocess
import unicodedata
from collections.abc import Sequence

from ssljax.augment.engines.backtranslation.translator import (
  Translator,
  TranslatorDied,
)
from ssljax.errors import UserError

PROGRAM = "apertium"
# Names of languages in Debian's pairs; older pairs use two letters as we do.
CODES = {
  "en": "eng", "es": "spa", "ca": "cat", "gl": "glg", "eo": "epo", "fr": "fra",
  "pt": "por", "it": "ita", "de": "deu", "ro": "ron", "ru": "rus",
}  # fmt: skip
BATCH = 400  # sentences of one process
SECONDS = 30.0  # for a process to start, beside
EACH = 0.5  # for each sentence; it takes a hundredth of that
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")


def make(language: str, pivots: Sequence[str]) -> Translator:
  """The translator between a language and each of the pivots.

  Raises:
    UserError: the program or a pair is not installed.
  """
  if shutil.which(PROGRAM) is None:
    packages = " ".join(f"apertium-{_code(language)}-{_code(p)}" for p in pivots)
    raise UserError(
      f"no program apertium here: `apt-get install -y apertium {packages}`, or"
      " --config.translator=marian"
    )
  listed = subprocess.run([PROGRAM, "-l"], capture_output=True, text=True, check=False)
  installed = listed.stdout.split()
  modes = {}
  for pivot in pivots:
    for pair in ((language, pivot), (pivot, language)):
      modes[pair] = _mode(pair, installed, pivot)

  def translate(texts: list[str], source: str, target: str) -> list[str]:
    mode = modes[source, target]
    out = []
    for first in range(0, len(texts), BATCH):
      out += _batch(mode, [_clean(text) for text in texts[first : first + BATCH]])
    return out

  return Translator("apertium", modes, translate)


def _batch(mode: str, texts: list[str]) -> list[str]:
  """One process for all of them; two for the halves where the answer does not fit."""
  asked = [text for text in texts if text]
  if not asked:
    return [""] * len(texts)
  # An empty line ends a sentence for Apertium too.
  answer = _run(mode, "".join(text + "\n\n" for text in asked), len(asked))
  parts = answer.split("\n\n")
  if len(parts) != len(asked) + 1 or not all(part.strip() for part in parts[:-1]):
    if len(texts) == 1:
      raise TranslatorDied(f"apertium {mode} gave no answer")
    half = len(texts) // 2
    return _batch(mode, texts[:half]) + _batch(mode, texts[half:])
  # Words that it drops leave their spaces; the texts that it got have single ones.
  given = iter(" ".join(part.split()) for part in parts)
  return [next(given) if text else "" for text in texts]


def _run(mode: str, text: str, count: int) -> str:
  """What `apertium -u` prints; -u: without the marks *, # and @ on unknown words."""
  process = subprocess.Popen(
    [PROGRAM, "-u", mode],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    env={**os.environ, "LC_ALL": "C.UTF-8"},
    start_new_session=True,  # it is a pipeline of a dozen: they end together
  )
  try:
    out, _ = process.communicate(text.encode(), timeout=SECONDS + EACH * count)
  except subprocess.TimeoutExpired:
    raise TranslatorDied(f"apertium {mode} hangs") from None
  finally:
    if process.returncode is None:
      os.killpg(process.pid, signal.SIGKILL)
      process.communicate()
  if process.returncode != 0:
    raise TranslatorDied(f"apertium {mode} ended with code {process.returncode}")
  return out.decode("utf-8", "replace")


def _clean(text: str) -> str:
  """One line without what Apertium's tools stumble over: control characters, accents
  that stand apart from their letters."""
  plain = unicodedata.normalize("NFC", text)
  return " ".join(UNPRINTABLE.sub(" ", plain).split())


def _code(language: str) -> str:
  return CODES.get(language, language)


def _mode(pair: tuple[str, str], installed: list[str], pivot: str) -> str:
  """Apertium's name for a direction."""
  one, other = pair
  for name in (f"{_code(one)}-{_code(other)}", f"{one}-{other}"):
    if name in installed:
      return name
  raise UserError(
    f"config.pivots: apertium has no pair {_code(one)}-{_code(other)} here (but"
    f" {', '.join(installed) or 'none'}): `apt-cache search apertium` shows which there"
    f" are, `apt-get install -y apertium-{_code(one)}-{_code(other)}` may bring"
    f" it; or leave {pivot} out"
  )

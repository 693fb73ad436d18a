"""Translates with Apertium: rule-based, in a local process, without network or weights.

It needs Debian's packages `apertium` and `apertium-eng-spa`, or other language pairs.
Each batch starts a new process, which takes a quarter of a second.
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
  TranslatorError,
)
from ssljax.errors import UserError

PROGRAM = "apertium"
# ISO 639-3 codes, as in the names of Debian's pairs; older pairs have two letters.
CODES = {
  "en": "eng", "es": "spa", "ca": "cat", "gl": "glg", "eo": "epo", "fr": "fra",
  "pt": "por", "it": "ita", "de": "deu", "ro": "ron", "ru": "rus",
}  # fmt: skip
BATCH = 400  # sentences in one process
# Timeout of a process in seconds: a constant and a part for each sentence, which
# usually takes 0.005.
TIMEOUT, SENTENCE_TIMEOUT = 30.0, 0.5
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")


def make_translator(language: str, pivots: Sequence[str]) -> Translator:
  """Creates a translator between a language and each of the pivots.

  Raises:
    UserError: the program or a language pair is not installed.
  """
  if shutil.which(PROGRAM) is None:
    packages = " ".join(f"apertium-{_code(language)}-{_code(p)}" for p in pivots)
    raise UserError(
      f"the program apertium is missing: `apt-get install -y apertium {packages}`, or"
      " use --config.translator=marian"
    )
  listed = subprocess.run([PROGRAM, "-l"], capture_output=True, text=True, check=False)
  installed = listed.stdout.split()
  modes = {}
  for pivot in pivots:
    for pair in ((language, pivot), (pivot, language)):
      modes[pair] = _mode(pair, installed, pivot)

  def translate(texts: list[str], source: str, target: str) -> list[str]:
    mode = modes[source, target]
    translations = []
    for first in range(0, len(texts), BATCH):
      cleaned = [_clean(text) for text in texts[first : first + BATCH]]
      translations += _translate_batch(mode, cleaned)
    return translations

  return Translator("apertium", modes, translate)


def _translate_batch(mode: str, texts: list[str]) -> list[str]:
  """Translates in one process; bisects the batch if the output doesn't match it."""
  nonempty = [text for text in texts if text]
  if not nonempty:
    return [""] * len(texts)
  # Apertium also ends a sentence at an empty line.
  output = _run(mode, "".join(text + "\n\n" for text in nonempty), len(nonempty))
  parts = output.split("\n\n")
  if len(parts) != len(nonempty) + 1 or not all(part.strip() for part in parts[:-1]):
    if len(texts) == 1:
      raise TranslatorError(f"apertium {mode} gave no answer")
    half = len(texts) // 2
    return [
      *_translate_batch(mode, texts[:half]),
      *_translate_batch(mode, texts[half:]),
    ]
  # A word that Apertium drops leaves its spaces behind; the input has single spaces.
  translations = iter(" ".join(part.split()) for part in parts)
  return [next(translations) if text else "" for text in texts]


def _run(mode: str, text: str, count: int) -> str:
  """Returns the output of `apertium -u`, which doesn't mark unknown words."""
  process = subprocess.Popen(
    [PROGRAM, "-u", mode],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    env={**os.environ, "LC_ALL": "C.UTF-8"},
    start_new_session=True,  # to kill the whole pipeline, a dozen processes
  )
  timeout = TIMEOUT + SENTENCE_TIMEOUT * count
  try:
    output, _ = process.communicate(text.encode(), timeout=timeout)
  except subprocess.TimeoutExpired:
    raise TranslatorError(f"apertium {mode} hangs") from None
  finally:
    if process.returncode is None:
      os.killpg(process.pid, signal.SIGKILL)
      process.communicate()
  if process.returncode != 0:
    raise TranslatorError(f"apertium {mode} ended with code {process.returncode}")
  return output.decode("utf-8", "replace")


def _clean(text: str) -> str:
  """Removes what breaks Apertium: control characters and combining accents."""
  composed = unicodedata.normalize("NFC", text)
  return " ".join(UNPRINTABLE.sub(" ", composed).split())


def _code(language: str) -> str:
  return CODES.get(language, language)


def _mode(pair: tuple[str, str], installed: list[str], pivot: str) -> str:
  """Returns Apertium's name for a translation direction."""
  source, target = pair
  mode = f"{_code(source)}-{_code(target)}"
  for name in (mode, f"{source}-{target}"):
    if name in installed:
      return name
  raise UserError(
    f"config.pivots: the apertium pair {mode} is not installed (installed:"
    f" {', '.join(installed) or 'none'}); try `apt-get install -y apertium-{mode}`,"
    f" look for pairs with `apt-cache search apertium`, or remove {pivot}"
  )

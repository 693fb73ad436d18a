"""Translates with Apertium, which is rule-based and needs no network or weights.

Apertium is in Debian's packages `apertium` and `apertium-eng-spa` (or another language
pair). Each batch starts a new process; the start takes a quarter of a second.
"""

import os
import re
import shutil
import signal
import subprocess
import unicodedata
from collections.abc import Sequence

from ssljax.augment.engines.backtranslation import translator
from ssljax.data.records.files import chunked
from ssljax.errors import UserError

PROGRAM = "apertium"
# ISO 639-3 codes, as in the names of Debian's pairs. Older pairs have two-letter codes.
CODES = {
  "en": "eng", "es": "spa", "ca": "cat", "gl": "glg", "eo": "epo", "fr": "fra",
  "pt": "por", "it": "ita", "de": "deu", "ro": "ron", "ru": "rus",
}  # fmt: skip
BATCH = 400  # sentences that one process translates
# A process may take 30 s plus 0.5 s per sentence. A sentence usually takes 0.005 s.
TIMEOUT, SENTENCE_TIMEOUT = 30.0, 0.5
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")


def make_translator(language: str, pivots: Sequence[str]) -> translator.Translator:
  """Creates a translator between a language and each of the pivots.

  Raises:
    UserError: the program or a language pair is not installed.
  """
  if shutil.which(PROGRAM) is None:
    packages = [f"apertium-{_mode_name(language, pivot)}" for pivot in pivots]
    raise UserError(
      "the program apertium is missing: run `apt-get install -y apertium"
      f" {' '.join(packages)}`, or use --config.translator=marian"
    )
  listed = subprocess.run([PROGRAM, "-l"], capture_output=True, text=True, check=False)
  installed = listed.stdout.split()
  modes = {}
  for pivot in pivots:
    for source, target in ((language, pivot), (pivot, language)):
      mode = _mode_name(source, target)
      names = [name for name in (mode, f"{source}-{target}") if name in installed]
      if not names:
        raise UserError(
          f"config.pivots: the apertium pair {mode} is not installed (installed:"
          f" {', '.join(installed) or 'none'}); run `apt-get install -y"
          f" apertium-{mode}` or remove {pivot}; see `apt-cache search apertium`"
        )
      modes[source, target] = names[0]

  def translate(texts: list[str], source: str, target: str) -> list[str]:
    # Control characters and combining accents break Apertium.
    composed = (unicodedata.normalize("NFC", text) for text in texts)
    cleaned = [" ".join(UNPRINTABLE.sub(" ", text).split()) for text in composed]
    translations = []
    for batch in chunked(cleaned, BATCH):
      translations += _translate_batch(modes[source, target], batch)
    return translations

  return translator.Translator(modes, translate)


def _translate_batch(mode: str, texts: list[str]) -> list[str]:
  """Translates in one process; if translations are missing, retries with each half."""
  timeout = TIMEOUT + SENTENCE_TIMEOUT * len(texts)
  process = subprocess.run(
    # `timeout` also kills the children. `-u` leaves unknown words unmarked.
    ["timeout", "--signal=KILL", str(timeout), PROGRAM, "-u", mode],
    input="".join(f"{text}\n\n" for text in texts),  # an empty line ends a sentence
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    env={**os.environ, "LC_ALL": "C.UTF-8"},
    encoding="utf-8",
    errors="replace",
    check=False,
  )
  if process.returncode == -signal.SIGKILL:
    raise translator.TranslatorError(f"apertium {mode} hangs")
  if process.returncode != 0:
    raise translator.TranslatorError(
      f"apertium {mode} ended with code {process.returncode}"
    )
  *translations, _ = process.stdout.split("\n\n")
  if len(translations) == len(texts) and all(map(str.strip, translations)):
    # When Apertium drops a word, the spaces around it stay.
    return [" ".join(translation.split()) for translation in translations]
  if len(texts) == 1:
    raise translator.TranslatorError(f"apertium {mode} gave no answer")
  half = len(texts) // 2
  return _translate_batch(mode, texts[:half]) + _translate_batch(mode, texts[half:])


def _mode_name(source: str, target: str) -> str:
  return f"{CODES.get(source, source)}-{CODES.get(target, target)}"

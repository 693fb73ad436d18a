"""Translation with Apertium: a script that replaces it, and the real program."""

import os
import re
import shutil
import subprocess
import time

import pytest

from ssljax.augment import engines
from ssljax.augment.engine import Source
from ssljax.augment.engines.backtranslation import apertium
from ssljax.augment.engines.backtranslation.translator import (
  TranslatorError,
  back_translate,
)
from ssljax.errors import UserError

TEXT = (
  "Dr. Ada bakes bread. She sells it, e.g. on Mondays!  Is it good?\n\n"
  "1. Flour\r\n  - **salt** and water\n---\n```py\nprint('do not touch')\n```\n42\nDone"
)


# A script instead of Apertium.


@pytest.fixture
def script(monkeypatch, tmp_path):
  """Makes a translator of a shell script."""

  def write(body):
    file = tmp_path / "apertium"
    listing = 'if [ "$1" = -l ]; then echo "  eng-spa"; echo "  spa-eng"; exit; fi\n'
    file.write_text(f"#!/bin/sh\n{listing}{body}\n")
    file.chmod(0o755)
    monkeypatch.setattr(apertium, "PROGRAM", str(file))
    return apertium.make_translator("en", ["es"])

  return write


def test_a_batch_is_bisected_if_the_output_does_not_match(script, tmp_path):
  # Drops the last of three or more texts.
  lose = 'BEGIN {RS = ""} {a[NR] = $0} END {n = NR > 2 ? NR - 1 : NR;'
  lose += ' for (i = 1; i <= n; i++) printf "%s\\n\\n", a[i]}'
  translator = script(f"echo run >> {tmp_path}/runs; awk '{lose}'")
  texts = ["one", "two", "three", "four", "five", "six"]
  assert translator.translate(texts, "en", "es") == texts
  assert (tmp_path / "runs").read_text().count("run") > 2


def test_a_program_without_output(script):
  translator = script("cat > /dev/null")
  with pytest.raises(TranslatorError, match="gave no answer"):
    translator.translate(["one", "two"], "en", "es")


def test_a_program_that_fails(script):
  translator = script("cat > /dev/null; exit 3")
  with pytest.raises(TranslatorError, match="code 3"):
    translator.translate(["one"], "en", "es")


def test_a_program_that_hangs_is_killed_with_its_children(
  script, monkeypatch, tmp_path
):
  monkeypatch.setattr(apertium, "TIMEOUT", 0.5)
  monkeypatch.setattr(apertium, "SENTENCE_TIMEOUT", 0.0)
  translator = script(f"sleep 60 & echo $! > {tmp_path}/child; wait")
  began = time.monotonic()
  with pytest.raises(TranslatorError, match="hangs"):
    translator.translate(["one"], "en", "es")
  assert time.monotonic() - began < 10
  child = int((tmp_path / "child").read_text())
  for _ in range(100):
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(child)], capture_output=True)
    if not state.stdout.strip(b" \n") or state.stdout.startswith(b"Z"):
      return
    time.sleep(0.05)
  pytest.fail("the child still runs")


def test_missing_program_and_missing_pair(script, monkeypatch):
  script("cat")
  with pytest.raises(
    UserError, match=r"pair eng-cat is not installed.*eng-spa, spa-eng"
  ):
    apertium.make_translator("en", ["ca"])
  monkeypatch.setattr(apertium, "PROGRAM", "no-such-program")
  with pytest.raises(UserError, match="apt-get install -y apertium apertium-eng-spa"):
    apertium.make_translator("en", ["es"])


# The real Apertium.


@pytest.fixture(scope="module")
def real():
  if shutil.which("apertium") is None:
    pytest.skip(reason="apt-get install -y apertium apertium-eng-spa")
  listed = subprocess.run(["apertium", "-l"], capture_output=True, text=True).stdout
  if not {"eng-spa", "spa-eng"} <= set(listed.split()):
    pytest.skip(reason="apt-get install -y apertium-eng-spa")
  return apertium.make_translator("en", ["es"])


def test_translation_into_spanish(real):
  translations = real.translate(["The cat drinks milk.", "Good morning!"], "en", "es")
  assert {"gato", "leche"} <= set(re.findall(r"\w+", translations[0]))
  assert translations[1].startswith("Buen")


def test_many_sentences_keep_their_order(real):
  texts = [f"The cat number {i} drinks {i % 7} cups of milk." for i in range(450)]
  translations = real.translate(texts, "en", "es")
  numbers = [re.search(r"\d+", text)[0] for text in translations]
  assert numbers == [str(i) for i in range(450)]


def test_unknown_words_are_not_marked_and_special_characters_kept(real):
  text = "The zorgblat likes #bread, *milk* and @ana; a $5 {x} [y] <z> ^w/ \\ ~ bill."
  (back,) = back_translate([text], real, "en", "es")
  assert "zorgblat" in back
  for character in "*#@$^{}[]<>/\\~":
    assert back.count(character) == text.count(character), character
  assert "  " not in back


@pytest.mark.parametrize(
  "text",
  ["\x00 cat \x07", "cat\x85\u2028dog", "\ud800 cat", "[]\n[cat", "^cat$", "🙂 猫"],
)
def test_unusual_characters_do_not_affect_other_sentences(real, text):
  translations = real.translate(["The dog.", text, "The milk."], "en", "es")
  assert translations[::2] == ["El perro.", "La leche."]


def test_views_of_real_apertium(real):
  sources = [
    Source("0", TEXT, "The cat drinks milk."),
    Source("1", "Where is my bread?"),
  ]
  engine = engines.make("backtranslation", {})
  candidates = dict(engine.make(sources, 0))
  view = candidates[0][0]
  assert view.problem == ""
  assert view.text != TEXT
  # Lists and code are kept.
  assert re.fullmatch(
    r"[^\n]+\n\n1\. \w+\r\n  - [^\n]+\n---\n"
    r"```py\nprint\('do not touch'\)\n```\n42\n\w+",
    view.text,
  )
  assert "cat" in view.response
  assert "bread" in candidates[1][0].text
  assert dict(engine.make(sources, 0)) == candidates


def test_translations_do_not_depend_on_the_locale(real, monkeypatch):
  before = real.translate(["Tomorrow is a good day."], "en", "es")
  monkeypatch.setitem(os.environ, "LC_ALL", "C")
  assert "ñ" in before[0]
  assert real.translate(["Tomorrow is a good day."], "en", "es") == before

"""Back-translation: sentences and what is between them, pivots, and what goes wrong."""

import itertools
import os
import re
import shutil
import subprocess
import time

import pytest

from ssljax.augment import cache
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.engines.backtranslation import apertium, sentences
from ssljax.augment.engines.backtranslation import engine as backtranslation
from ssljax.augment.engines.backtranslation.translator import (
  Translator,
  TranslatorDied,
  there_and_back,
)
from ssljax.errors import UserError

TEXT = (
  "Dr. Ada bakes bread. She sells it, e.g. on Mondays!  Is it good?\n\n"
  "1. Flour\r\n  - **salt** and water\n---\n```py\nprint('do not touch')\n```\n42\nDone"
)
SENTENCES = [
  "Dr. Ada bakes bread.",
  "She sells it, e.g. on Mondays!",
  "Is it good?",
  "Flour",
  "**salt** and water",
  "Done",
]


# Sentences.


def test_sentences_and_what_is_between():
  found = sentences.split(TEXT)
  assert found.words == SENTENCES
  assert found.joined() == TEXT


@pytest.mark.parametrize(
  "text",
  ["", " \n ", "no end", "\n\n a\u2028b. C d", "x" * 3000, "« Oui ». Non…", "?!"],
)
def test_joined_they_are_the_text(text):
  assert sentences.split(text).joined() == text


def test_long_sentences_are_cut_between_words():
  text = " ".join(f"word{i}" for i in range(500)) + " " + "x" * 900 + " and so on"
  found = sentences.split(text)
  assert found.joined() == text
  assert max(map(len, found.words)) <= sentences.LONGEST
  assert not any("xxx" in word for word in found.words)  # code stays as it is
  assert found.words[-1] == "and so on"
  assert " ".join(found.words[:-1]).split() == text.split()[:500]


# The engine, with a translator that marks what it did.


def fake(translate=None):
  """Reverses letters and says through which language; twice is there and back."""
  calls = []

  def reverse(texts, source, target):
    calls.append((source, target, list(texts)))
    return [f"{text[::-1]}{target}" for text in texts]

  models = {
    pair: "-".join(pair) for pair in itertools.permutations(("en", "es", "ca", "gl"), 2)
  }
  return Translator("fake", models, translate or reverse), calls


@pytest.fixture
def use(monkeypatch):
  def put(translator):
    monkeypatch.setattr(apertium, "make", lambda language, pivots: translator)

  return put


def run(rows, number=0, **keywords):
  return dict(backtranslation.make(**keywords).make(rows, number))


def test_each_sentence_goes_there_and_back_in_its_place():
  translator, calls = fake()
  (back,) = there_and_back([TEXT], translator, "en", "es")
  want = TEXT
  for sentence in SENTENCES:
    want = want.replace(sentence, f"se{sentence}en", 1)
  assert back == want
  assert [call[:2] for call in calls] == [("en", "es"), ("es", "en")]


def test_equal_sentences_are_translated_once():
  translator, calls = fake()
  there_and_back(["Yes. Yes.", "Yes."], translator, "en", "es")
  assert calls[0][2] == ["Yes."]


def test_a_sentence_that_would_lose_its_address_stays():
  translator, _ = fake(lambda texts, s, t: [x.replace("://a", "://b") for x in texts])
  text = "See https://a.example/x now. Then see it."
  assert there_and_back([text], translator, "en", "es") == [text]


def test_both_sides_of_a_pair_are_translated(use):
  use(fake()[0])
  rows = [Source("0", "A cat sat.", "It sat."), Source("1", "No.", None)]
  found = run(rows)
  assert found[0] == [Candidate("seA cat sat.en", "seIt sat.en")]
  assert found[1] == [Candidate("seNo.en", None)]


def test_pivots_are_drawn_and_each_comes_once(use):
  use(fake()[0])
  rows = [Source(str(i), f"Cat number {i} sat.") for i in range(60)]
  pivots = ("es", "ca", "gl")
  tries = [run(rows, number, pivots=pivots) for number in range(4)]
  for i, row in enumerate(rows):
    first, second, third, fourth = (found[i] for found in tries)
    assert {found[0].text for found in (first, second, third)} == {
      f"{pivot[::-1]}{row.text}en" for pivot in pivots
    }
    assert fourth == []
  used = [tries[0][i][0].text[:2] for i in range(60)]
  assert min(used.count(pivot[::-1]) for pivot in pivots) > 8
  assert run(rows[7:8], pivots=pivots)[0] == tries[0][7]  # whatever stands beside


def test_other_pivots_and_seeds_ask_for_no_translation_twice(use):
  use(fake()[0])
  rows = [Source(str(i), f"Cat number {i} sat.") for i in range(20)]

  def keys(numbers, **keywords):
    engine = backtranslation.make(**keywords)
    return {cache.key(engine, row, number) for row in rows for number in numbers}

  one = keys([0], pivots=("es",))
  assert keys([0], pivots=("es",), seed=1) == one
  assert len(one) == 20
  assert keys([0, 1], pivots=("ca", "es"), seed=2) > one
  assert not keys([0], pivots=("ca",)) & one
  assert not keys([0], pivots=("es",), source="ca") & one
  # That there is no third hangs on how many pivots there are.
  two, three = (keys([2], pivots=p) for p in (("es", "ca"), ("es", "ca", "gl")))
  assert not two & three


def test_a_text_that_kills_the_translator_takes_no_other_with_it(use):
  def fragile(texts, source, target):
    if any("poison" in text for text in texts):
      raise TranslatorDied("it died")
    return [f"{text}!" for text in texts]

  use(fake(fragile)[0])
  rows = [Source(str(i), "poison" if i == 21 else f"Cat {i}") for i in range(50)]
  found = run(rows)
  assert found[21] == [Candidate(problem="it died", passing=True)]
  assert all(found[i] == [Candidate(f"Cat {i}!!")] for i in range(50) if i != 21)


def test_a_translator_that_is_gone_is_not_asked_for_each_text(use):
  calls = []

  def dead(texts, source, target):
    calls.append(texts)
    raise TranslatorDied("it died")

  use(fake(dead)[0])
  found = run([Source(str(i), f"Cat {i}") for i in range(50)])
  assert all(
    each == [Candidate(problem="it died", passing=True)] for each in found.values()
  )
  assert len(calls) == 2


def test_nothing_to_translate(use):
  use(fake()[0])
  found = run([Source("0", "1 + 1 = 2"), Source("1", "")])
  assert found == {i: [Candidate(problem="nothing to translate")] for i in range(2)}


@pytest.mark.parametrize(
  ("keywords", "words"),
  [
    ({"pivots": ()}, "give different languages"),
    ({"pivots": ("es", "es")}, "give different languages"),
    ({"pivots": ("en",)}, "other than en"),
    ({"translator": "oracle"}, "choose apertium or marian"),
  ],
)
def test_mistakes(keywords, words):
  with pytest.raises(UserError, match=words):
    backtranslation.make(**keywords)


# Apertium: the program's part played by a script.


@pytest.fixture
def script(monkeypatch, tmp_path):
  def write(body):
    file = tmp_path / "apertium"
    listing = 'if [ "$1" = -l ]; then echo "  eng-spa"; echo "  spa-eng"; exit; fi\n'
    file.write_text(f"#!/bin/sh\n{listing}{body}\n")
    file.chmod(0o755)
    monkeypatch.setattr(apertium, "PROGRAM", str(file))
    return apertium.make("en", ["es"])

  return write


def test_output_that_does_not_fit_is_asked_for_again_in_parts(script, tmp_path):
  # Loses the last text of any three or more.
  lose = 'BEGIN {RS = ""} {a[NR] = $0} END {n = NR > 2 ? NR - 1 : NR;'
  lose += ' for (i = 1; i <= n; i++) printf "%s\\n\\n", a[i]}'
  translator = script(f"echo run >> {tmp_path}/runs; awk '{lose}'")
  texts = ["one", "two", "", "four", "five", "six"]
  assert translator.translate(texts, "en", "es") == texts
  assert (tmp_path / "runs").read_text().count("run") > 2


def test_a_program_that_says_nothing(script):
  translator = script("cat > /dev/null")
  with pytest.raises(TranslatorDied, match="gave no answer"):
    translator.translate(["one", "two"], "en", "es")


def test_a_program_that_fails(script):
  translator = script("cat > /dev/null; exit 3")
  with pytest.raises(TranslatorDied, match="code 3"):
    translator.translate(["one"], "en", "es")


def test_a_program_that_hangs_is_ended_with_its_children(script, monkeypatch, tmp_path):
  monkeypatch.setattr(apertium, "SECONDS", 0.5)
  monkeypatch.setattr(apertium, "EACH", 0.0)
  translator = script(f"sleep 60 & echo $! > {tmp_path}/child; wait")
  began = time.monotonic()
  with pytest.raises(TranslatorDied, match="hangs"):
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
  with pytest.raises(UserError, match=r"no pair eng-cat here.*eng-spa, spa-eng"):
    apertium.make("en", ["ca"])
  monkeypatch.setattr(apertium, "PROGRAM", "no-such-program")
  with pytest.raises(UserError, match="apt-get install -y apertium apertium-eng-spa"):
    apertium.make("en", ["es"])


# Apertium itself.


@pytest.fixture(scope="module")
def real():
  if shutil.which("apertium") is None:
    pytest.skip(reason="apt-get install -y apertium apertium-eng-spa")
  listed = subprocess.run(["apertium", "-l"], capture_output=True, text=True).stdout
  if not {"eng-spa", "spa-eng"} <= set(listed.split()):
    pytest.skip(reason="apt-get install -y apertium-eng-spa")
  return apertium.make("en", ["es"])


def test_there_in_spanish(real):
  found = real.translate(["The cat drinks milk.", "", "Good morning!"], "en", "es")
  assert {"gato", "leche"} <= set(re.findall(r"\w+", found[0]))
  assert found[1] == ""
  assert found[2].startswith("Buen")


def test_many_sentences_keep_their_order(real):
  texts = [f"The cat number {i} drinks {i % 7} cups of milk." for i in range(450)]
  found = real.translate(texts, "en", "es")
  assert [re.search(r"\d+", text)[0] for text in found] == [str(i) for i in range(450)]


def test_unknown_words_have_no_marks_and_marks_of_the_text_stay(real):
  text = "The zorgblat likes #bread, *milk* and @ana; a $5 {x} [y] <z> ^w/ \\ ~ bill."
  (back,) = there_and_back([text], real, "en", "es")
  assert "zorgblat" in back
  for mark in "*#@$^{}[]<>/\\~":
    assert back.count(mark) == text.count(mark), mark
  assert "  " not in back


@pytest.mark.parametrize(
  "text",
  ["\x00 cat \x07", "cat\x85\u2028dog", "\ud800 cat", "[]\n[cat", "^cat$", "🙂 猫"],
)
def test_odd_characters_break_nothing(real, text):
  found = real.translate(["The dog.", text, "The milk."], "en", "es")
  assert [found[0], found[2]] == ["El perro.", "La leche."]


def test_views_of_real_apertium(real):
  rows = [Source("0", TEXT, "The cat drinks milk."), Source("1", "Where is my bread?")]
  found = run(rows)
  view = found[0][0]
  assert view.problem == ""
  assert view.text != TEXT
  # A list stays a list, code stays code.
  assert re.fullmatch(
    r"[^\n]+\n\n1\. \w+\r\n  - [^\n]+\n---\n"
    r"```py\nprint\('do not touch'\)\n```\n42\n\w+",
    view.text,
  )
  assert "cat" in view.response
  assert "bread" in found[1][0].text
  assert run(rows) == found


def test_the_environment_of_the_user_has_no_say(real, monkeypatch):
  before = real.translate(["Tomorrow is a good day."], "en", "es")
  monkeypatch.setitem(os.environ, "LC_ALL", "C")
  assert "ñ" in before[0]
  assert real.translate(["Tomorrow is a good day."], "en", "es") == before

"""Back-translation with a fake translator: sentences, pivots, failing translators."""

import itertools

import pytest

from ssljax.augment import cache, engines
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.engines.backtranslation import apertium
from ssljax.augment.engines.backtranslation.sentences import MAX_LENGTH, split_sentences
from ssljax.augment.engines.backtranslation.translator import (
  Translator,
  TranslatorError,
  back_translate,
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


# Sentence splitting.


def test_lists_and_code_are_not_sentences():
  pieces = split_sentences(TEXT)
  assert pieces.words == SENTENCES
  assert pieces.joined() == TEXT


@pytest.mark.parametrize(
  "text",
  ["", " \n ", "no end", "\n\n a\u2028b. C d", "x" * 3000, "« Oui ». Non…", "?!"],
)
def test_joined_sentences_and_gaps_are_the_text(text):
  assert split_sentences(text).joined() == text


def test_long_sentences_are_cut_between_words():
  text = " ".join(f"word{i}" for i in range(500)) + " " + "x" * 900 + " and so on"
  pieces = split_sentences(text)
  assert pieces.joined() == text
  assert max(map(len, pieces.words)) <= MAX_LENGTH
  assert not any("xxx" in word for word in pieces.words)  # code is not translated
  assert pieces.words[-1] == "and so on"
  assert " ".join(pieces.words[:-1]).split() == text.split()[:500]


# The engine, with a fake translator.


def fake(translate=None):
  """Returns a translator and its calls.

  By default it reverses letters and appends the target language.
  """
  calls = []

  def reverse(texts, source, target):
    calls.append((source, target, list(texts)))
    return [f"{text[::-1]}{target}" for text in texts]

  models = {
    pair: "-".join(pair) for pair in itertools.permutations(("en", "es", "ca", "gl"), 2)
  }
  return Translator(models, translate or reverse), calls


@pytest.fixture
def use(monkeypatch):
  """Replaces Apertium by another translator."""

  def replace(translator):
    monkeypatch.setattr(
      apertium, "make_translator", lambda language, pivots: translator
    )

  return replace


def make_engine(**keywords):
  return engines.make("backtranslation", keywords)


def collect(sources, number=0, **keywords):
  """Candidates by index."""
  return dict(make_engine(**keywords).make(sources, number))


def test_each_sentence_is_translated_back_in_its_place():
  translator, calls = fake()
  (back,) = back_translate([TEXT], translator, "en", "es")
  expected = TEXT
  for sentence in SENTENCES:
    expected = expected.replace(sentence, f"se{sentence}en", 1)
  assert back == expected
  assert [call[:2] for call in calls] == [("en", "es"), ("es", "en")]


def test_duplicate_sentences_are_translated_once():
  translator, calls = fake()
  back_translate(["Yes. Yes.", "Yes."], translator, "en", "es")
  assert calls[0][2] == ["Yes."]


def test_a_sentence_whose_address_would_change_is_kept():
  translator, _ = fake(lambda texts, s, t: [x.replace("://a", "://b") for x in texts])
  text = "See https://a.example/x now. Then see it."
  assert back_translate([text], translator, "en", "es") == [text]


def test_both_sides_of_a_pair_are_translated(use):
  use(fake()[0])
  sources = [Source("0", "A cat sat.", "It sat."), Source("1", "No.", None)]
  candidates = collect(sources)
  assert candidates[0] == [Candidate("seA cat sat.en", "seIt sat.en")]
  assert candidates[1] == [Candidate("seNo.en", None)]


def test_each_pivot_is_used_once_in_random_order(use):
  use(fake()[0])
  sources = [Source(str(i), f"Cat number {i} sat.") for i in range(60)]
  pivots = ("es", "ca", "gl")
  rounds = [collect(sources, number, pivots=pivots) for number in range(4)]
  for i, source in enumerate(sources):
    assert {candidates[i][0].text for candidates in rounds[:3]} == {
      f"{pivot[::-1]}{source.text}en" for pivot in pivots
    }
    assert rounds[3][i] == []
  used = [rounds[0][i][0].text[:2] for i in range(60)]
  assert min(used.count(pivot[::-1]) for pivot in pivots) > 8
  # The pivot doesn't depend on the other texts.
  assert collect(sources[7:8], pivots=pivots)[0] == rounds[0][7]


def test_cache_keys_depend_on_the_languages_only(use):
  use(fake()[0])
  sources = [Source(str(i), f"Cat number {i} sat.") for i in range(20)]

  def keys(numbers, **keywords):
    engine = make_engine(**keywords)
    return {
      cache.key(engine, source, number) for source in sources for number in numbers
    }

  spanish = keys([0], pivots=("es",))
  assert keys([0], pivots=("es",), seed=1) == spanish
  assert len(spanish) == 20
  assert keys([0, 1], pivots=("ca", "es"), seed=2) > spanish
  assert not keys([0], pivots=("ca",)) & spanish
  assert not keys([0], pivots=("es",), source="ca") & spanish
  # Whether there is a third view depends on the number of pivots.
  two, three = (keys([2], pivots=p) for p in (("es", "ca"), ("es", "ca", "gl")))
  assert not two & three


def test_a_text_that_crashes_the_translator_affects_no_other(use):
  def fragile(texts, source, target):
    if any("poison" in text for text in texts):
      raise TranslatorError("it crashed")
    return [f"{text}!" for text in texts]

  use(fake(fragile)[0])
  texts = ["poison" if i == 21 else f"Cat {i}" for i in range(50)]
  candidates = collect([Source(str(i), text) for i, text in enumerate(texts)])
  assert candidates.pop(21) == [Candidate(problem="it crashed", transient=True)]
  assert all(c == [Candidate(f"Cat {i}!!")] for i, c in candidates.items())
  assert len(candidates) == 49


def test_a_dead_translator_is_not_called_for_each_text(use):
  calls = []

  def dead(texts, source, target):
    calls.append(texts)
    raise TranslatorError("it crashed")

  use(fake(dead)[0])
  candidates = collect([Source(str(i), f"Cat {i}") for i in range(50)])
  problem = Candidate(problem="it crashed", transient=True)
  assert candidates == {i: [problem] for i in range(50)}
  assert len(calls) == 2


def test_nothing_to_translate(use):
  use(fake()[0])
  candidates = collect([Source("0", "1 + 1 = 2"), Source("1", "")])
  assert candidates == {
    i: [Candidate(problem="nothing to translate")] for i in range(2)
  }


@pytest.mark.parametrize(
  ("keywords", "message"),
  [
    ({"pivots": ()}, "give at least one language"),
    ({"pivots": ("es", "es")}, "give at least one language"),
    ({"pivots": ("en",)}, "other than en"),
    ({"translator": "oracle"}, "it must be one of apertium, marian"),
  ],
)
def test_invalid_settings(keywords, message):
  with pytest.raises(UserError, match=message):
    make_engine(**keywords)

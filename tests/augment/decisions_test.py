"""The sentences that say why a view was kept or a candidate was dropped."""

import pytest

from ssljax.augment import decisions
from ssljax.augment.decisions import explain_drop
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.filters import text as text_filter

SOURCE = Source("1", "how long must I bake the loaf")
LONG = Candidate("how long must I bake the loaf " * 4)


@pytest.mark.parametrize(
  ("reason", "view", "config", "sentence"),
  [
    (
      "near-identical",
      Candidate("how long must I bake the loaf?"),
      {"most_alike": 0.9},
      "It shares 98.3% of its characters with the text; the limit is 90% (most_alike).",
    ),
    (
      "too short",
      Candidate("how?"),
      {"least_ratio": 0.3},
      "Its length is 14% of the text's length; the limit is 30% (least_ratio).",
    ),
    ("too long", LONG, {}, "Its length is 414% of the text's length."),
    (
      "too long",
      LONG,
      {"most_ratio": None},
      "Its length is 414% of the text's length.",
    ),
    (
      "other language",
      Candidate("wie lange"),
      {"language": "same"},
      "Its language isn't the text's.",
    ),
    (
      "other language",
      Candidate("wie lange"),
      {"language": "en"},
      "Its language isn't 'en', as the config requires.",
    ),
    ("truncated", Candidate(), {}, "The engine gave this reason."),
  ],
)
def test_reasons_are_explained_with_what_was_measured(reason, view, config, sentence):
  assert explain_drop(reason, SOURCE, view, config) == sentence


def test_the_worst_changed_part_of_a_pair_is_measured():
  source = Source("1", "a question", "a long answer")
  view = Candidate("the question", "a")
  assert explain_drop("too short", source, view, {}).startswith("Its length is 8%")


def test_every_reason_of_the_text_filters_has_an_explanation():
  for reason in text_filter.REASONS:
    sentence = explain_drop(reason, SOURCE, Candidate("x"), {})
    assert sentence != "The engine gave this reason."
    assert sentence.endswith(".")


@pytest.mark.parametrize(
  ("origin", "report", "word"),
  [
    ("eda:1", {"origin": "eda:1", "origins": {"eda:1": {}}}, "kept"),
    ("eda:0", {"origin": "eda:1", "origins": {"eda:0": {}, "eda:1": {}}}, "kept"),
    ("eda:2", {"origin": "eda:1", "origins": {"eda:1": {}}}, "unknown"),
    ("eda:1", {}, "unknown"),
    (None, {}, "unknown"),
    ("fallback:self", {}, "fallback"),
    ("fallback:words", {}, "fallback"),
  ],
)
def test_the_origin_of_a_view_gives_the_decision(origin, report, word):
  assert decisions.decision(origin, report)[0] == word

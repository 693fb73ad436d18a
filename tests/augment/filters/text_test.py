"""The text filters: what each drops, and what it must not drop."""

import time
import unicodedata

import pytest
from ssljax.configs.augment import base

from ssljax.augment.engine import Candidate, Source
from ssljax.augment.filters import text as text_filters
from ssljax.augment.settings import Settings, parse_config
from ssljax.errors import UserError

TEXT = "Please tell me how long a loaf of rye bread must stay in the oven."
GOOD = "What is the right time for baking a loaf of rye? Tell me, please."


def make_settings(**changes) -> Settings:
  config = base.get_config("custom", "mine")
  config.update(changes)
  return parse_config(config.to_dict())[0]


def reason(view, text=TEXT, response=None, new_response=None, **changes):
  source = Source("1", text, response)
  candidate = text_filters.clean(source, Candidate(view, new_response))
  return text_filters.drop_reason(source, candidate, make_settings(**changes))


@pytest.mark.parametrize(
  "view",
  [
    "I can't help with that request, it may be unsafe for people.",
    "I'm sorry, but I can't assist with that. Is there something else?",
    "I’m sorry, but I am not able to rewrite this text for you today.",
    "Sorry, I cannot fulfil this request as it is described here.",
    "As an AI language model, I do not bake bread or anything else.",
    "I am unable to paraphrase this text because of its contents.",
    "I cannot provide a paraphrase of that text, dear friend of bread.",
    "I won't rewrite this question about bread, and that is final.",
    "Unfortunately, I cannot help you to bake the bread of this kind.",
    "I must decline to say how long it must stay in there, my friend.",
    "  **I can’t help with that.** Ask me about something else, please.",
    "No, I can't help with that, however long you bake the rye for it.",
    "I refuse to paraphrase this question about the baking of breads.",
    "I don't feel comfortable with saying that in other words for you.",
    "Unfortunately, I can not say this about the bread in other words.",
    "As a responsible AI, I cannot rewrite this text about your bread.",
    "It is not appropriate to ask how long the rye must stay in there.",
    "My apologies, I am unable to say this about rye in other words.",
  ],
)
def test_refusals_are_dropped_unless_the_text_is_one(view):
  assert reason(view) == "refusal"
  refused = "I can't help with baking a loaf of rye in that oven of yours."
  assert reason(view, refused) != "refusal"


@pytest.mark.parametrize(
  "view",
  [
    GOOD,
    "I can't help but wonder how long rye bread has to stay in an oven.",
    "I cannot find out how long rye bread should be baked; please tell me.",
    "Sorry to bother you, but how long does rye bread stay in the oven?",
    "I am sorry for my bad bread. How long should rye stay in the oven?",
    "How long for rye? I can't help you otherwise, said the baker to me.",
    "I decline every loaf of rye that was baked for a short time, so when?",
    "No, really, how long does a rye loaf need in such an oven as mine?",
    "As an assistant baker, how long should I leave the rye loaf in there?",
    "I can't write my essay on rye bread. How do I find a place to begin?",
    "I cannot share my recipe for rye; how long does it have to stay in?",
    "Unfortunately, my oven is unable to hold the heat. How long for a rye?",
    "I'm sorry, but my sister cannot come to bake. How long does rye need?",
    "I refuse to pay for bread. Explain how long the rye stays in my oven.",
    "As an AI robot in a bakery, explain how long a rye loaf must stay in.",
    "It is unethical to bake rye for less than an hour in there, isn't it?",
  ],
)
def test_texts_that_resemble_refusals_are_kept(view):
  assert reason(view) == ""


@pytest.mark.parametrize(
  "around",
  [
    "Here is a paraphrase: {}",
    "Here's the rewritten text:\n\n{}",
    "Sure! Here is a paraphrased version of the text:\n{}",
    "Certainly, here is one possible rewrite of your sentence: {}",
    "Paraphrase: {}",
    "Rewritten text: {}",
    "Sure: {}",
    '"{}"',
    "“{}”",
    'Here is a paraphrase: "{}"',
    "  {}\n\n",
  ],
)
def test_preambles_and_quotes_are_removed(around):
  assert text_filters.strip_preamble(TEXT, around.format(GOOD)) == GOOD


@pytest.mark.parametrize(
  ("text", "view"),
  [
    ('"Bread" is a word, and "oven" too', '"Loaf" is a word, like "stove"'),
    ("Here is a text: bread", "Here is a text: a loaf"),
    ("Here's my version of it: rye", "Here's my version of it: loaf"),
    ('"All in quotes"', '"Everything in quotes"'),
    ("'Tis bread", "'Tis a loaf, isn't it'"),
    ("Say it", "Sure thing, baker of mine"),
    ("Say it", "Revised: a loaf"),
    ("Say it", "Alternative: a cake of rye"),
    ("Say it", "Great! Now bake it"),
    ("Say it", "Here is the bread. And here: the oven."),
  ],
)
def test_preambles_and_quotes_of_the_view_itself_are_kept(text, view):
  assert text_filters.strip_preamble(text, view) == view


@pytest.mark.parametrize(
  "view",
  [
    "Sure, here you go! What time does a loaf of rye bread need in there",
    "I have rephrased the question: how long does the rye bread need then",
    "I paraphrased it so that the meaning of the bread question is kept.",
    "The text can be rephrased as a question about the time for rye bread",
    f"{GOOD}\n\nNote: I kept the meaning of the question.",
    f"{GOOD}\nLet me know if you need another one!",
    f"{GOOD}\n(This version keeps the tone.)",
    f"{GOOD}\nNote that I kept the tone of it.",
  ],
)
def test_meta_talk_that_cannot_be_removed_drops_the_view(view):
  assert reason(view) == "meta-talk"
  assert reason(view, view.replace("time", "hour")) != "meta-talk"


@pytest.mark.parametrize(
  ("view", "expected"),
  [
    (GOOD, ""),
    (TEXT, "identical"),
    (f"\n {TEXT} ", "identical"),
    (TEXT.replace("oven.", "oven"), "near-identical"),
    (f"{GOOD}<|im_start|>", "markup"),
    (TEXT.upper(), "near-identical"),
    ("", "empty"),
    (" ... \u200b !", "empty"),
    ("Bread?", "too short"),
    (GOOD * 4, "too long"),
    ("half \ud800 of a pair, which no file can hold, about bread", "malformed"),
    ("a zero \0 in the middle of a text that has none, about bread", "malformed"),
  ],
)
def test_identical_empty_malformed_and_odd_sized_views_are_dropped(view, expected):
  assert reason(view) == expected


def test_a_limit_of_zero_turns_a_filter_off():
  assert reason("Bread?", least_ratio=0.0) == ""
  assert reason(GOOD * 4, most_ratio=0.0) == ""
  assert reason(TEXT.upper(), most_alike=0.0) == ""
  assert reason(TEXT, most_alike=0.0) == "identical"


def test_the_unicode_form_of_a_text_makes_no_view():
  composed = "Làm thế nào để nướng bánh mì trong lò nhỏ?"
  decomposed = unicodedata.normalize("NFD", composed)
  for text, view in ((composed, decomposed), (decomposed, composed)):
    assert reason(view, text) == reason(view, text, most_alike=0.0) == "identical"
    assert text_filters.fingerprint(text, None) == text_filters.fingerprint(view, None)


def test_punctuation_may_replace_punctuation():
  assert reason("?!?!?!", "!?!?!?", most_alike=0.0) == ""


GERMAN = "Bitte sage mir, wie lange ein Roggenbrot im Ofen bleiben muss, danke."


@pytest.mark.slow
def test_views_in_another_language_are_dropped_if_configured():
  pytest.importorskip("py3langid", reason="pip install -e '.[augment]'")
  assert reason(GERMAN, language="en") == "other language"
  assert reason(GERMAN, language="de") == ""
  assert reason(GERMAN) == ""
  assert reason(GOOD, language="en") == ""
  assert reason("Backe es!", "Bake it", language="en") == ""  # too short to tell
  assert reason(GERMAN, language="same") == "other language"
  assert reason(GOOD, GERMAN, language="same") == "other language"
  assert reason("Das Brot backe ich in der Stadt.", GERMAN, language="same") == ""
  assert reason(GOOD, language="same") == ""
  assert reason("Backe es nicht!", "Bake 1 2 3 4", language="same") == ""
  assert reason(GERMAN, "12 :: 34 (56), 78 = 90, 11 / 12", language="same") == ""
  with pytest.raises(UserError, match="two-letter codes"):
    text_filters.language_identifier("english")


def test_questions_must_stay_questions_if_configured():
  asked = "How long must a loaf of rye bread stay in the oven?"
  told = "A loaf of rye stays in the oven for about an hour."
  assert reason(told, asked) == ""
  assert reason(told, asked, keep_questions=True) == "no question"
  assert reason(told, f'"{asked}" ', keep_questions=True) == "no question"
  assert reason("Rye bread: for how long?", asked, keep_questions=True) == ""
  assert reason(told, asked.replace("?", "."), keep_questions=True) == ""
  assert (
    reason(
      "黑麦面包在烤箱里要烤多久？", "Wie lange backt das Brot？", keep_questions=True
    )
    == ""
  )


def test_only_the_changed_parts_of_a_pair_are_checked():
  answer = "I can't help with that, I only know about cake and cookies."
  other = "That is beyond me, for my knowledge is of cake and of cookies."
  assert reason(GOOD, TEXT, answer, answer) == ""  # unchanged
  assert reason(GOOD, TEXT, answer, None) == ""  # None repeats the response
  assert reason(TEXT, TEXT, other, answer) == "refusal"
  assert reason(TEXT, TEXT, answer, other) == ""
  assert reason(TEXT, TEXT, answer, answer) == "identical"
  assert reason(GOOD, TEXT, answer, "") == "empty"
  assert reason(TEXT, TEXT, answer, "") == "empty"
  assert reason(GOOD, TEXT, other, "Cake.") == "too short"
  # The order of the reasons counts, not the order of the parts.
  assert reason("", TEXT, answer, "half \ud800 of a pair") == "malformed"
  assert reason("half \ud800 of a pair", TEXT, answer, "") == "malformed"
  source = Source("1", TEXT, answer)
  assert text_filters.clean(source, Candidate(GOOD, None)).response == answer
  alone = text_filters.clean(Source("1", TEXT), Candidate(GOOD, "of nothing"))
  assert alone.response is None


@pytest.mark.parametrize(
  "source",
  [
    "That's not something I'm willing to help with; ask me about cake then.",
    "This would be illegal, and I would rather talk about baking a cake.",
    "You should not do this to any bread. Let us talk about cake instead.",
  ],
)
def test_views_of_a_response_that_seems_to_refuse_may_refuse(source):
  view = "I can't help with that, but I will gladly talk with you about cake."
  assert reason(TEXT, TEXT, source, view) == ""
  assert reason(TEXT, TEXT, GOOD, view) == reason(view) == "refusal"


def test_a_note_to_the_reader_is_not_meta_talk():
  assert reason(f"{GOOD}\nNote that the oven of mine is small.") == ""


def test_long_texts_are_filtered_in_linear_time():
  began = time.process_time()
  fence = "```\n" + "\n" * 200_000
  for text in ("word " * 40_000, "\n" * 200_000 + "x", '"' * 100_000, "Sure " * 50_000):
    reason(text + "end", text + "begin")
  for text in (
    "</s>" * 50_000,
    "</think>" * 25_000,
    "<a" * 50_000,
    fence,
    "<|" * 80_000,
  ):
    reason(text + "end", text + "begin")
  # A pattern with quadratic time would take minutes.
  assert time.process_time() - began < 10

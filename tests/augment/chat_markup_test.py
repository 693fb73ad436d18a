"""Reasoning and control tokens of many chat templates never become views."""

import pytest

from ssljax.augment import chat_markup
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.engines.llm.prompt import build_request, load_prompt, parse_rewrite
from ssljax.augment.filters import text as text_filters
from ssljax.augment.settings import parse_config
from tests.augment.command import make_config

TEXT = "How do I bake a loaf of bread in a small oven?"
GOOD = "What is the way to get bread out of a tiny stove?"
WANTED = "Okay, so the user wants this in other words. Let me see."


def stored(answer, text=TEXT):
  """The view that an answer of a model becomes; None if it is dropped."""
  request = build_request(load_prompt("paraphrase"), text, None, 0)
  parsed = parse_rewrite(answer, request)
  return None if parsed is None else stored_from_cache(parsed, text)


def stored_from_cache(candidate, text=TEXT):
  """The view that a candidate becomes; earlier versions cached unclean candidates."""
  source, settings = Source("1", text), parse_config(make_config())[0]
  view = text_filters.clean(source, Candidate(candidate))
  return None if text_filters.drop_reason(source, view, settings) else view.text


@pytest.mark.parametrize("read", [stored, stored_from_cache])
@pytest.mark.parametrize(
  "answer",
  [
    f"{WANTED}\n</think>\n\n{GOOD}",
    f"<think>{WANTED}</think>{GOOD}",
    f"<think>one</think> {WANTED}</think>\n{GOOD}",
    f"<thinking>{WANTED}</thinking>\n{GOOD}",
    f"<Reasoning>\n{WANTED}\n</Reasoning>\n{GOOD}",
    f"<seed:think>{WANTED}</seed:think>{GOOD}",
    f"[THINK]{WANTED}[/THINK]{GOOD}",
    f"◁think▷{WANTED}◁/think▷{GOOD}",
    f"<|START_THINKING|>{WANTED}<|END_THINKING|>{GOOD}",
    f"<|channel>thought\n{WANTED}<channel|>{GOOD}",
    f"<|channel|>analysis<|message|>{WANTED}<|end|><|start|>assistant"
    f"<|channel|>final<|message|>{GOOD}<|return|>",
    f"<think>{WANTED}</think>\n<answer>{GOOD}</answer>",
    f"{GOOD}<|im_end|>",
    f"{GOOD}</s>",
    f"{GOOD} <|eot_id|>\n<|endoftext|> ",
    f"{GOOD}<end_of_turn>\n",
    f"{GOOD}<turn|>",
    f"{GOOD} [end of text]",
    f"{GOOD}<｜end▁of▁sentence｜>",
    f"```\n{GOOD}\n```",
    f"```text\n{GOOD}```",
    f"Here is the rewritten text:\n```\n{GOOD}\n```",
  ],
)
def test_what_a_server_leaves_around_an_answer_is_removed(read, answer):
  assert read(answer) == GOOD


@pytest.mark.parametrize("read", [stored, stored_from_cache])
@pytest.mark.parametrize(
  "answer",
  [
    WANTED,
    "The user wants a paraphrase of a question about bread. It asks for a way.",
    "We need to rewrite the question about bread in a small oven, with its intent.",
    f"<think>{GOOD}",
    f"<thinking>\n{GOOD}",
    f"{GOOD}\n<think>Was that right?",
    f"{GOOD}<|im_end|>\n<|im_start|>user\nAnd a cake?",
    f"<|start_header_id|>assistant<|end_header_id|>\n\n{GOOD}",
    f"{GOOD} [/INST] Flour first.",
    f"<s> {GOOD}",
    f"{GOOD} <extra_id_0>",
    f"{GOOD} <unk>",
    f"<reserved_106>{GOOD}",
    f"{GOOD} <tool_call>",
    f"{GOOD}\n\n### Response:\nFlour first.",
    f"{GOOD}\nAssistant: Flour first.",
    f"{GOOD} Assistant: Flour first.",
    f"{GOOD} USER: And a cake? ASSISTANT: Flour first.",
    f"{GOOD} ### Response: Flour first.",
    f"{GOOD} [end of text] Flour first.",
    f"{GOOD}<|im_end|",
    f"{GOOD}<|im",
    f"{GOOD}</s",
    f"{GOOD}<｜end▁of▁sentence",
    f"{GOOD}<end_of",
    f"{GOOD} [/INS",
    f"{GOOD} [EOS] Flour first.",
    f"{GOOD}<0x0A>Flour first.",
    f"{GOOD} >>ANSWER<< Flour first.",
  ],
)
def test_other_reasoning_and_control_tokens_drop_the_view(read, answer):
  assert read(answer) is None


def test_what_the_text_has_is_kept():
  code = "What does <answer>flour</answer> mean in my file, and what does <unk> mean?"
  view = "In a file of mine, what do <answer>flour</answer> and <unk> stand for?"
  assert stored(view, code) == view
  assert stored("How do I make <b>bread</b> in a tiny stove?") is not None
  for theirs, ours in (("### Input", "###input"), ("#### Input", "### Input")):
    view = f"What is the way to get bread with {ours} out of a tiny stove?"
    assert stored(view, f"How do I bake bread with {theirs} in a small oven?") == view
  thought = "Write </think> and </s>, then tell me how to bake bread in an oven."
  view = "After </think> and </s>, say how bread is to be baked in ovens.</s>"
  assert stored_from_cache(view, thought) == view
  fence = "What is this?\n```\nflour\n```"
  assert chat_markup.unwrap(fence, "```\nwater\n```") == "```\nwater\n```"


@pytest.mark.parametrize("read", [stored, stored_from_cache])
def test_one_tag_of_the_text_allows_no_other(read):
  text = f"{TEXT} Write </plan> and <flour> after it."
  kept = f"{GOOD} Put </plan> and <FLOUR> behind it."
  assert read(kept, text) == kept
  assert read(f"{WANTED}</reasoning>{kept}", text) == kept
  for other in ("<extra_id_0>", "<unk>", "<|im_end|>", "</s> <s>", "<sugar>"):
    assert read(f"{kept} {other} Bake it.", text) is None


def test_one_control_token_of_the_text_allows_no_other():
  text = f"{TEXT} What do </s> and USER: mean?"  # is never sent to a model
  kept = f"{GOOD} What is </s>, and what is USER: there?"
  assert stored_from_cache(kept, text) == kept
  assert stored_from_cache(f"{kept}<|im_end|>", text) == kept
  for other in ("<|im_end|><|im_start|>system", "[/INST]", "ASSISTANT:", "<s>"):
    assert stored_from_cache(f"{kept} {other} Bake it.", text) is None


def test_a_lone_surrogate_is_not_kept_because_of_a_null_character():
  source, settings = Source("1", f"{TEXT}\0"), parse_config(make_config())[0]
  reason = text_filters.drop_reason(source, Candidate(f"{GOOD}\ud800"), settings)
  assert reason == "malformed"

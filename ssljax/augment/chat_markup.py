"""Finds control tokens of chat templates, and removes a model's reasoning.

A server that doesn't know its model's template returns both as part of the answer.
"""

import re

# Tokens that chat templates write between turns. Some servers, such as llama.cpp, also
# parse these tokens inside a message.
CONTROL_TOKENS = re.compile(
  r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>]{1,40}｜>|<\|/?\w{1,40}>|<\w{1,40}\|>"
  r"|\[\|\w{1,40}\|\]|\]~!?b[\[\]]|\[e~\[|<</?SYS>>|</s>"
  r"|<(?:bos|eos|sop|eop|eoh|eoa|eod)>|</?(?:\w{1,20}:)?think(?:ing)?\b[^<>]{0,40}>"
  r"|◁/?think▷|<(?:start_of_turn|end_of_turn|end_of_utterance)>"
  r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT"
  r"|THINK|gMASK)\]"
)
# Other markup that a rewrite has no reason to add: the tokens of less common templates,
# such as <extra_id_0>, tags around parts of an answer, and tokens that are cut off at
# the end. HTML may be part of a text. Some templates mark turns with words, such as
# "### Response:" or "ASSISTANT:", and not only at the beginning of a line.
_HTML = (
  r"a|abbr|article|b|body|br|button|code|div|em|footer|form|h[1-6]|head|header|hr|html|i"
  r"|iframe|img|input|label|li|link|main|meta|nav|ol|option|p|pre|script|section|select"
  r"|small|span|strong|style|sub|sup|table|tbody|td|textarea|th|thead|title|tr|u|ul"
)
_OTHER_MARKUP = re.compile(
  rf"</?(?!(?:{_HTML})>)[^\W\d_][\w:▁-]{{0,40}}>"
  r"|###\s*(?:instruction|response|input|human|assistant|user|system)\b"
  r"|^[ \t]*(?:gpt4 correct )?(?:assistant|human|user):"
  r"|(?-i:\b(?:USER|HUMAN|ASSISTANT):|(?<=[.!?]\s)(?:User|Human|Assistant):)"
  r"|\[end of text\]|(?-i:\[(?:BOS|EOS|CLS|SEP|PAD|UNK|MASK)\])|<0x[0-9A-F]{2}>"
  r"|>>(?:question|answer)<<"
  r"|(?:<[|｜][^|｜<>\s]{0,40}[|｜]?|</\w{0,40}|<(?:start|end)_\w{0,40}"
  r"|\[/(?-i:[A-Z_]{0,20}))\s*\Z",
  re.IGNORECASE | re.MULTILINE,
)
_END_OF_REASONING = re.compile(
  r"</(?:\w{1,20}:)?(?:think|thinking|thoughts?|reason|reasoning|reflection|scratchpad"
  r"|analysis|plan|planning)\s*>|\[/THINK\]|◁/think▷|<channel\|>"
  r"|<\|(?:END_THINKING|end_of_thought|/think)\|>|<\|channel\|>final<\|message\|>",
  re.IGNORECASE,
)
_END_OF_TURN = re.compile(
  r"</s>|<(?:eos|end_of_turn|end_of_utterance|turn\|)>|<｜end▁of▁sentence｜>"
  r"|<\|(?:im_end|end|endoftext|end_of_text|end_of_turn|END_OF_TURN_TOKEN|eot|EOT|eot_id"
  r"|eom_id|return)\|>|\[\|endofturn\|\]|\[end of text\]"
)


def new_markup(source: str, view: str) -> list[str]:
  """Returns the control tokens, tags and turns of a view that its source lacks."""
  patterns = CONTROL_TOKENS, _OTHER_MARKUP
  return [m[0] for pattern in patterns for m in new_matches(pattern, source, view)]


def new_matches(pattern: re.Pattern[str], source: str, text: str) -> list[re.Match]:
  """Returns the matches in a text whose characters aren't anywhere in its source.

  Case and the amount of white space don't count; nor does a space after ###.
  """
  matches = list(pattern.finditer(text))
  known = _normalized(source) if matches else ""
  return [match for match in matches if _normalized(match[0]) not in known]


def _normalized(text: str) -> str:
  return " ".join(text.casefold().split()).replace("### ", "###")


def strip_answer(source: str, answer: str) -> str:
  """Removes reasoning before an answer, and the tokens that end it.

  Everything up to the last end of reasoning is removed, because its beginning may be
  missing: some templates end with it. Nothing is removed that the source also has.
  """
  if ends := new_matches(_END_OF_REASONING, source, answer):
    answer = answer[ends[-1].end() :]
  end = len(answer)
  for match in reversed(new_matches(_END_OF_TURN, source, answer)):
    if answer[match.end() : end].strip():
      break
    end = match.start()
  return answer[:end].strip()


def unwrap(source: str, answer: str) -> str:
  """Removes a code fence, or a pair of tags such as <answer>, around an answer."""
  if match := re.match(r"```[\w-]*\n|<(\w+)>", answer):
    mark, end = (f"<{match[1]}>", f"</{match[1]}>") if match[1] else ("```", "```")
    inner = answer[match.end() :].removesuffix(end)
    wraps = answer.endswith(end) and mark not in inner and end not in inner
    if wraps and inner.strip() and mark not in source:
      return inner.strip()
  return answer

"""Filters candidate views by their text: refusals, preambles, length, language, ….

`clean` removes what an LLM adds around its answer. Each check in CHECKS then looks for
one fault, and `drop_reason` names the first one. A view isn't dropped for a fault that
its source has as well: a paraphrase of "I can't help with that" may be a refusal.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

from rapidfuzz.distance import Indel

from ssljax.augment.engine import Candidate, Source
from ssljax.augment.settings import Settings
from ssljax.errors import UserError

MIN_LETTERS = 20  # the language of a shorter text can't be identified
MIN_PROBABILITY = 0.9  # of an identified language
QUESTION_MARKS = ("?", "？", "؟")
SAME = "same"  # config.language: the language of the source

# Spaces are written \s, because a verbose pattern ignores literal ones.
_NEGATED = (
  r"(?:can(?:no|['’])?t|can\snot|won['’]?t|will\snot|(?:am|['’]m)\s(?:not\sable|unable)\sto"
  r"|(?:am|['’]m)\snot\s(?:comfortable|allowed|going|willing|permitted))"
)
_TASK = (
  r"(?:help|assist|provide|fulfil|fulfill|comply|answer|support|create|generate|write"
  r"|rewrite|rephrase|paraphrase|engage|do|discuss|produce|satisfy|complete|process"
  r"|respond|give|offer|share|participate|promote|encourage|continue)"
)
# In the voice of an assistant. Text about the writer's own affairs is a user's.
_REFUSAL = re.compile(
  rf"""[\W_]*(?:no[,.!]\ |my\ |as\ an?\ \w+\ (?:ai|assistant)[,.]?\ )?(?:
    (?:(?:i['’]?m|i\ am)\ (?:so\ |very\ |really\ |deeply\ )?sorry|sorry|apologies
      |i\ (?:must\ )?apologi[sz]e|unfortunately)\b[^.!?\n]{{0,60}}?\b
      (?:i\ ?{_NEGATED}|(?:not|isn['’]?t)\ something\ (?:that\ )?i|against\ my
        |i\ (?:must\ |have\ to\ )(?:decline|refuse))\b(?!\ \w+\ (?:my|our)\b)
    |as\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)\b
      [^.!?\n]{{0,60}}?\bi\ ?
      (?:{_NEGATED}|do(?:n['’]?t|\ not)|am\ not|['’]m\ not|have\ no|must)\b
    |i\ (?:don['’]?t|do\ not)\ feel\ comfortable\b
    |i\ ?{_NEGATED}\ (?:\w+\ ){{0,2}}?{_TASK}\b
      (?!\ (?:\w+\ )?(?:but|it|my|our|mine|ours|myself|feeling|noticing|thinking
        |wondering)\b)
    |(?:that|this)(?:['’]s|\ is)\ not\ something\ (?:that\ )?i\b
    |i\ (?:respectfully\ )?(?:decline|refuse)\ to\ {_TASK}\b
    |i\ (?:must|have\ to)\ (?:respectfully\ )?(?:decline|refuse)\b
    |it(?:['’]s|\ is|\ would\ be)\ (?:not\ (?:appropriate|ethical|right)|inappropriate
      |unethical)\ (?:for\ me\ )?to\b(?![^.!\n]*\?)
    |(?:this|that|your)\ (?:request|content|prompt|text)\ (?:violates|goes\ against
      |is\ against|is\ (?:inappropriate|harmful|not\ appropriate))\b
  )""",
  re.IGNORECASE | re.VERBOSE,
)
# Most refusals contain one of these; compliant texts rarely begin with one. A source
# response that has one may be a refusal that _REFUSAL misses, so its views may refuse.
_HESITATION = re.compile(
  rf"(?:\b{_NEGATED}\b|\b(?:sorry|apologi[sz]e|unable|not able|declin\w+|refus\w+"
  r"|against|inappropriate|unethical|illegal"
  r"|not (?:something|appropriate|ethical|okay|right)|should(?:n['’]t| not))\b)",
  re.IGNORECASE,
)
_BEGINNING = 300  # characters searched for _HESITATION
_WORK = (
  r"(?:paraphrase[ds]?|paraphrasing|rephrase[ds]?|rephrasing|rewrite|rewritten|rewriting"
  r"|rewording|reworded|revised|reformulat\w+|alternative)"
)
_SURE = r"(?:sure(?:\sthing)?|certainly|of\scourse|absolutely|okay|ok|gladly|great)"
# "Sure! Here is a paraphrase of the text:" or "Paraphrase:", followed by the view.
_PREAMBLE = re.compile(
  rf"""\s*(?:
    (?:{_SURE}[,.!:]*\s+)?
      (?:here(?:['’]s|\ is|\ are)|this\ is|below\ is)\b[^:\n]{{0,20}}\b
      (?:{_WORK}|version|text)\b[^:\n]{{0,60}}:
    |(?:the\ |my\ |your\ )?{_WORK}\ (?:text|version|prompt|question|sentence|response
      |request)\s*:
    |(?:paraphrase[ds]?|rephrase[ds]?|rewrit(?:e|ten)|reworded|reformulat\w+)\s*:
    |(?:sure|certainly|of\ course)\s*[!:](?=\s)
  )\s*""",
  re.IGNORECASE | re.VERBOSE,
)
# Talk about the task that can't be separated from the view.
_META_TALK = re.compile(
  rf"""\s*(?:
    {_SURE}[,!.]\s+(?:here|i|let|this|below)\b
    |here(?:['’]s|\ is|\ are)\ [^.\n]{{0,40}}\b{_WORK}\b
    |i(?:['’]ve|\ have|['’]ll|\ will)?\ {_WORK}\b
    |the\ (?:text|prompt|sentence|passage|original\ \w+)\ (?:can|could|may)\ be
      \ {_WORK}
    |{_WORK}\ (?:text|version|prompt)\b
  )""",
  re.IGNORECASE | re.VERBOSE,
)
# "Note: I kept the meaning." on a separate last line.
_CLOSING_NOTE = re.compile(
  r"\W*(?:note\s*:|(?:please )?note that (?:i|the (?:original|text|meaning|tone))\b"
  r"|explanation\s*:|let me know if|i hope this|this (?:version|rewrite|paraphrase)\b"
  rf"|(?:the|this) {_WORK}\b)",
  re.IGNORECASE,
)
_QUOTES = {'"': '"', "“": "”", "«": "»", "‘": "’", "'": "'", "`": "`"}


def strip_preamble(source: str, view: str) -> str:
  """Removes a preamble and quotes around the view, unless the source has them."""
  view = view.strip()
  match = _PREAMBLE.match(view)
  if match and match.end() < len(view) and not _PREAMBLE.match(source):
    view = view[match.end() :]
  mark = view[:1]
  if (
    len(view) > 2
    and view[-1] == _QUOTES.get(mark)
    and source.strip()[:1] != mark
    and mark not in view[1:-1]
    and view[-1] not in view[1:-1].replace("’", "" if mark != "‘" else "’")
  ):
    view = view[1:-1].strip()
  return view


class Rewrite(NamedTuple):
  """A changed part of a pair: its text or its response."""

  source: str
  view: str
  settings: Settings
  is_response: bool = False


def malformed(rewrite: Rewrite) -> bool:
  try:  # a lone surrogate can't be written to a file
    rewrite.view.encode()
  except UnicodeEncodeError:
    return True
  return "\0" in rewrite.view and "\0" not in rewrite.source


def empty(rewrite: Rewrite) -> bool:
  return not any(c.isalnum() for c in rewrite.view) and any(
    c.isalnum() for c in rewrite.source
  )


def refusal(rewrite: Rewrite) -> bool:
  """Whether the view refuses, and the source doesn't and isn't a likely refusal."""
  if rewrite.is_response and _HESITATION.search(rewrite.source[:_BEGINNING]):
    return False
  return _only_in_view(_REFUSAL.match, rewrite)


def meta_talk(rewrite: Rewrite) -> bool:
  return any(
    _only_in_view(matches, rewrite)
    for matches in (_META_TALK.match, _PREAMBLE.match, _has_closing_note)
  )


def identical(rewrite: Rewrite) -> bool:
  return rewrite.source.split() == rewrite.view.split()


def near_identical(rewrite: Rewrite) -> bool:
  limit = rewrite.settings.most_alike
  if not limit:
    return False
  similarity = Indel.normalized_similarity(
    _normalized(rewrite.source), _normalized(rewrite.view), score_cutoff=limit
  )
  return similarity >= limit


def too_short(rewrite: Rewrite) -> bool:
  return len(rewrite.view) < rewrite.settings.least_ratio * len(rewrite.source)


def too_long(rewrite: Rewrite) -> bool:
  limit = rewrite.settings.most_ratio
  return bool(limit) and len(rewrite.view) > limit * len(rewrite.source)


def no_question(rewrite: Rewrite) -> bool:
  asks = rewrite.source.rstrip(" \n\"'”)*_").endswith(QUESTION_MARKS)
  return (
    rewrite.settings.keep_questions
    and asks
    and not any(mark in rewrite.view for mark in QUESTION_MARKS)
  )


def other_language(rewrite: Rewrite) -> bool:
  wanted = rewrite.settings.language
  if not wanted:
    return False
  identifier = language_identifier(wanted)
  if wanted == SAME:
    wanted = _language(identifier, rewrite.source)
  return bool(wanted) and _language(identifier, rewrite.view) not in ("", wanted)


CHECKS: dict[str, Callable[[Rewrite], bool]] = {
  "malformed": malformed,
  "empty": empty,
  "refusal": refusal,
  "meta-talk": meta_talk,
  "identical": identical,
  "near-identical": near_identical,
  "too short": too_short,
  "too long": too_long,
  "no question": no_question,
  "other language": other_language,
}


def drop_reason(source: Source, view: Candidate, settings: Settings) -> str:
  """Returns why a view must be dropped, or "" if it may stay.

  Only the parts of a pair that differ from the source are checked.
  """
  parts = changed_parts(source, view)
  if not parts:
    return "identical"
  for reason, has_fault in CHECKS.items():
    if any(has_fault(Rewrite(old, new, settings, resp)) for old, new, resp in parts):
      return reason
  return ""


def changed_parts(source: Source, view: Candidate) -> list[tuple[str, str, bool]]:
  """Lists (source, view, whether it is the response) of the parts that differ."""
  parts = [(source.text, view.text, False)]
  if source.response is not None and view.response is not None:
    parts.append((source.response, view.response, True))
  return [(old, new, is_response) for old, new, is_response in parts if old != new]


def clean(source: Source, view: Candidate) -> Candidate:
  """Returns the view with a response exactly if the source has one, both stripped."""
  text = view.text
  if text != source.text:
    text = strip_preamble(source.text, text)
  response = None
  if source.response is not None:
    response = source.response if view.response is None else view.response
  if response != source.response:
    response = strip_preamble(source.response, response)
  return view._replace(text=text, response=response)


def fingerprint(view: Candidate) -> tuple[str, str]:
  """Returns a key that is equal for copies, ignoring case and white space."""
  return _normalized(view.text), _normalized(view.response or "")


@functools.cache
def language_identifier(language: str):
  """Loads the language identification model that py3langid ships.

  Args:
    language: the value of `config.language`.

  Raises:
    UserError: py3langid isn't installed, or doesn't know `language`.
  """
  try:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier
  except ImportError:
    raise UserError(
      "--config.language needs py3langid: pip install -e '.[augment]'"
    ) from None
  identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
  codes = {str(name) for name in identifier.nb_classes}
  if language not in codes | {SAME}:
    raise UserError(
      f"--config.language={language!r}: use {SAME}, or a two-letter code such as en, "
      f"one of {', '.join(sorted(codes))}"
    )
  return identifier


def _language(identifier, text: str) -> str:
  """The code of the text's language; "" if it is uncertain."""
  if sum(map(str.isalpha, text)) < MIN_LETTERS:
    return ""
  language, probability = identifier.classify(text)
  return str(language) if probability >= MIN_PROBABILITY else ""


def _only_in_view(matches: Callable[[str], object], rewrite: Rewrite) -> bool:
  return bool(matches(rewrite.view)) and not matches(rewrite.source)


def _has_closing_note(text: str) -> bool:
  last_line = text.rstrip().rsplit("\n", 1)[-1]
  return "\n" in text and bool(_CLOSING_NOTE.match(last_line))


def _normalized(text: str) -> str:
  return " ".join(text.casefold().split())

"""Drops views whose text is a refusal, too short, in another language, and so on.

`clean` removes what an LLM adds around its answer. `drop_reason` then returns the
fault of the view that comes first in REASONS. A view isn't dropped for a fault that its
source also has: a paraphrase of "I can't help with that" may be a refusal.
"""

import functools
import re
import unicodedata

from rapidfuzz.distance import Indel

from ssljax.augment import chat_markup
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.settings import Settings
from ssljax.errors import UserError

MIN_LETTERS = 20  # the language of a shorter text can't be identified
MIN_PROBABILITY = 0.9  # below it, the language is uncertain
QUESTION_MARKS = ("?", "？", "؟")
SAME = "same"  # value of config.language: the source's language
REASONS = (
  *("malformed", "empty", "markup", "refusal", "meta-talk", "identical"),
  *("near-identical", "too short", "too long", "no question", "other language"),
)

# Spaces are written \s, because a verbose pattern ignores literal spaces.
_NEGATED = (
  r"(?:can(?:no|['’])?t|can\snot|won['’]?t|will\snot|(?:am|['’]m)\s(?:not\sable|unable)\sto"
  r"|(?:am|['’]m)\snot\s(?:comfortable|allowed|going|willing|permitted))"
)
_TASK = (
  r"(?:help|assist|provide|fulfil|fulfill|comply|answer|support|create|generate|write"
  r"|rewrite|rephrase|paraphrase|engage|do|discuss|produce|satisfy|complete|process"
  r"|respond|give|offer|share|participate|promote|encourage|continue)"
)
# Matches refusals in the words of an assistant. It doesn't match texts about the
# writer's own affairs, because a user wrote them.
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
# Most refusals contain one of these phrases; compliant texts rarely begin with one. A
# response with such a phrase may be a refusal that _REFUSAL misses, so its views may be
# refusals.
_HESITATION = re.compile(
  rf"(?:\b{_NEGATED}\b|\b(?:sorry|apologi[sz]e|unable|not able|declin\w+|refus\w+"
  r"|against|inappropriate|unethical|illegal"
  r"|not (?:something|appropriate|ethical|okay|right)|should(?:n['’]t| not))\b)",
  re.IGNORECASE,
)
_BEGINNING = 300  # only the first characters are searched for _HESITATION
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
# Remarks about the task that can't be separated from the view.
_META_TALK = re.compile(
  rf"""\s*(?:
    {_SURE}[,!.]\s+(?:so,?\s)?(?:here|i|let|this|below|we|the\suser)\b
    |the\suser\s(?:wants|asks|asked|is\sasking)\b
    |we\s(?:need\sto|have\sto|should|must)\s{_WORK}\b
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
_UNWRITABLE = re.compile(r"[\0\ud800-\udfff]")  # null, and lone surrogates
_QUOTES = {'"': '"', "“": "”", "«": "»", "‘": "’", "'": "'", "`": "`"}


def drop_reason(source: Source, view: Candidate, settings: Settings) -> str:
  """Returns the reason to drop a view (one of REASONS), or "" to keep it.

  Only the parts of a pair that differ from the source are checked.
  """
  parts = changed_parts(source, view)
  if not parts:
    return "identical"
  faults = [_first_fault(*part, settings) for part in parts]
  return min(filter(None, faults), key=REASONS.index, default="")


def _first_fault(source: str, view: str, is_response: bool, settings: Settings) -> str:
  only_in_view = lambda matches: matches(view) and not matches(source)
  if chat_markup.new_matches(_UNWRITABLE, source, view):
    return "malformed"
  if only_in_view(lambda text: not any(map(str.isalnum, text))):
    return "empty"
  if chat_markup.new_markup(source, view):
    return "markup"
  may_refuse = is_response and _HESITATION.search(source[:_BEGINNING])
  if only_in_view(_REFUSAL.match) and not may_refuse:
    return "refusal"
  if any(map(only_in_view, (_META_TALK.match, _PREAMBLE.match, _has_closing_note))):
    return "meta-talk"
  if _words(source) == _words(view):
    return "identical"
  if settings.most_alike and settings.most_alike <= Indel.normalized_similarity(
    normalized(source), normalized(view), score_cutoff=settings.most_alike
  ):
    return "near-identical"
  if len(view) < settings.least_ratio * len(source):
    return "too short"
  if settings.most_ratio and len(view) > settings.most_ratio * len(source):
    return "too long"
  if (
    settings.keep_questions
    and source.rstrip(" \n\"'”)*_").endswith(QUESTION_MARKS)
    and not any(mark in view for mark in QUESTION_MARKS)
  ):
    return "no question"
  if language := settings.language:
    identifier = language_identifier(language)
    expected = _language(identifier, source) if language == SAME else language
    if expected and _language(identifier, view) not in ("", expected):
      return "other language"
  return ""


def changed_parts(source: Source, view: Candidate) -> list[tuple[str, str, bool]]:
  """Lists the parts that differ, as (source, view, whether it is the response)."""
  parts = [(source.text, view.text, False)]
  if source.response is not None and view.response is not None:
    parts.append((source.response, view.response, True))
  return [(old, new, is_response) for old, new, is_response in parts if old != new]


def clean(source: Source, view: Candidate) -> Candidate:
  """Strips the view, and gives it a response exactly if the source has one."""
  response = source.response
  if response is not None and view.response is not None:
    response = strip_preamble(response, view.response)
  return view._replace(text=strip_preamble(source.text, view.text), response=response)


def strip_preamble(source: str, view: str) -> str:
  """Removes what a model adds around the view, unless the source has it.

  That is reasoning, tokens that end a turn, a preamble, a code fence or a tag around
  the view, and quotes.
  """
  if view == source:
    return view
  view = chat_markup.strip_answer(source, view)
  match = _PREAMBLE.match(view)
  if match and match.end() < len(view) and not _PREAMBLE.match(source):
    view = view[match.end() :]
  view = chat_markup.unwrap(source, view)
  mark, inner = view[:1], view[1:-1]
  if (
    len(view) > 2
    and view[-1] == _QUOTES.get(mark)
    and source.strip()[:1] != mark
    and mark not in inner
    and view[-1] not in (inner if mark == "‘" else inner.replace("’", ""))
  ):
    view = inner.strip()
  return view


def fingerprint(text: str, response: str | None) -> tuple[str, str]:
  """Returns a key that is equal if texts differ only in case and white space."""
  return normalized(text), normalized(response or "")


@functools.cache
def language_identifier(language: str):
  """Loads the language identification model that comes with py3langid.

  Raises:
    UserError: py3langid isn't installed, or doesn't know `language`, the value of
      `config.language`.
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
      f"--config.language={language!r}: use {SAME}, or one of the two-letter codes "
      f"{', '.join(sorted(codes))}"
    )
  return identifier


def _language(identifier, text: str) -> str:
  """Returns the code of the text's language; "" if the language is uncertain."""
  if sum(map(str.isalpha, text)) < MIN_LETTERS:
    return ""
  language, probability = identifier.classify(text)
  return str(language) if probability >= MIN_PROBABILITY else ""


def _has_closing_note(text: str) -> bool:
  last_line = text.rstrip().rsplit("\n", 1)[-1]
  return "\n" in text and bool(_CLOSING_NOTE.match(last_line))


def normalized(text: str) -> str:
  """Removes differences in case, white space and the Unicode form of accents."""
  return " ".join(_words(text.casefold()))


def _words(text: str) -> list[str]:
  return unicodedata.normalize("NFC", text).split()
